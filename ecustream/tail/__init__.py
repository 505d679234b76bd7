"""Follows a running ecustream in a terminal: a live table, plain lines, or JSON."""

"""Frames to log lines: packets, PDUs, names, activity state."""

"""Measures this machine: captures, scores, events; one file a thing that is measured."""

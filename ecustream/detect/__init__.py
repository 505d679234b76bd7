"""Scores to episodes: calibration, deadlines, debounce."""

"""Streaming anomaly detector for the communication of electronic control units."""

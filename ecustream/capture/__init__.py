"""Bytes to frames: trace files and live interfaces."""

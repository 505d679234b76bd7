"""Faults and controls: what goes wrong in a simulated vehicle, and what only looks like it."""

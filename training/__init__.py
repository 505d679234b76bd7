"""Offline tools: simulator, training, calibration, evaluation."""

"""`ecustream doctor`: whether this machine can capture and score, and what to do where it cannot."""

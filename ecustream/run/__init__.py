"""A run: lanes that read, passes that score, tracks that judge; `ecustream.service` wires them."""

"""Reads what there is to know about this machine; nothing here judges it."""

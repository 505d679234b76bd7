"""Episodes to readers: sockets, history, event log."""

"""The control socket: how commands reach the running daemon."""

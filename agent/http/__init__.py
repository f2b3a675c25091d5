"""A small HTTP server for what is served on loopback: metrics, and the credentials endpoint.

message.py    what a client may send, and what it gets     listener.py    an address, its connections, their limits
"""

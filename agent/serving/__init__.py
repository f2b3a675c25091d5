"""Credentials on request: the value in use, handed to processes that ask for it again and again, so that none is restarted."""

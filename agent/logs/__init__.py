"""Logs by structlog: set up once, with secrets kept out."""

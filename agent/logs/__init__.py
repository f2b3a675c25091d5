"""Logs by structlog: set up once, secrets kept out, standard output and error kept for keyturn's own words."""

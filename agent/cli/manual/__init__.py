"""Completions and man pages, made from the parser: for `keyturn completion`, `keyturn man`, the Debian package."""

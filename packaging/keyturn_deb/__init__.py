"""Builds the Debian package.

    PYTHONPATH=packaging python3 -m keyturn_deb build            what `make deb` runs

The standard library only: it runs before anything is installed. The story is in `build.py`; why it is made like
this, in packaging/README.md.
"""

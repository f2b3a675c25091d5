"""Builds the Debian package, its man pages and its shell completions.

    PYTHONPATH=packaging python3 -m keyturn_deb build            what `make deb` runs
    PYTHONPATH=packaging python3 -m keyturn_deb completion bash  for an installation by pip
    PYTHONPATH=packaging python3 -m keyturn_deb man keyturn.1

The standard library only: it runs before anything is installed. The story is in `build.py`; why it is made like
this, in packaging/README.md.
"""

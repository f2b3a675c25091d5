"""What a release is made of: `version` writes its number everywhere, `dist` builds every file of it (docs/releasing.md).

Standard library, pip and the setuptools of requirements/dev.lock only; the Debian package is built by keyturn_deb.
"""

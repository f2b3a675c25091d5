"""The versions that a report names."""

import platform
import re
from importlib import metadata

from agent import __version__
from agent.app import versions as module
from agent.app.versions import libraries, versions


def test_what_runs_here_is_named():
    """keyturn's own version, Python's, and those of what it needs directly and indirectly; not what only tests need."""
    found = versions()
    assert found.keyturn == __version__
    assert platform.python_version() in found.python
    assert found.libraries["structlog"] == metadata.version("structlog")
    assert found.libraries["cffi"] == metadata.version("cffi"), "cryptography needs it"
    assert "pytest" not in found.libraries
    text = "\n".join(found.lines())
    assert text.startswith(f"keyturn {__version__}\n")
    assert all(name in text for name in ("structlog", "openssl", platform.release()))


def test_a_missing_library_is_named(monkeypatch):
    """What keyturn requires and nobody installed is the first thing that a reader of a report wants to know."""

    class Keyturn:
        version, requires = "1", ["gone>=1", "elsewhere; sys_platform == 'win32'", "tool; extra == 'test'"]

    def distribution(name):
        if name == "keyturn":
            return Keyturn
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(module.metadata, "distribution", distribution)
    assert libraries() == {"gone": ""}


def test_without_metadata_or_systemd_it_says_so(monkeypatch):
    """A checkout that is run in place, in a container without systemd, still gets a report."""

    def nothing(*_args, **_kwargs):
        raise metadata.PackageNotFoundError

    monkeypatch.setattr(module.metadata, "distribution", nothing)
    monkeypatch.setattr(module, "_systemd", lambda: "")
    text = "\n".join(versions().lines())
    assert re.search(r"^  systemd +none$", text, re.M)
    assert "not installed as a package" in text

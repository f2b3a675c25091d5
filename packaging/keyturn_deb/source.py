"""What the build takes from the checkout: version, dates, texts, the command line."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keyturn_deb.errors import BuildError


@dataclass(frozen=True)
class Source:
    """A checkout of keyturn."""

    root: Path

    def text(self, name: str) -> str:
        """Read a file of the checkout.

        Raises:
            BuildError: it is not there.
        """
        try:
            return (self.root / name).read_text()
        except OSError as error:
            raise BuildError(f"{self.root / name}: {error.strerror}; build from a whole checkout") from None

    @property
    def version(self) -> str:
        """`agent.__version__`, without importing it.

        Raises:
            BuildError: the file names none.
        """
        found = re.search(r'^__version__ = "([^"]+)"$', self.text("agent/__init__.py"), re.M)
        if found is None:
            raise BuildError("agent/__init__.py names no __version__; build from a whole checkout")
        return found[1]

    @property
    def homepage(self) -> str:
        """The address that pyproject.toml names."""
        return str(tomllib.loads(self.text("pyproject.toml"))["project"]["urls"]["Documentation"])

    @property
    def maintainer(self) -> str:
        """Who built it: $DEBFULLNAME and $DEBEMAIL, as Debian's own tools know them."""
        name = os.environ.get("DEBFULLNAME") or "keyturn"
        return f"{name} <{os.environ.get('DEBEMAIL') or 'keyturn@users.noreply.github.com'}>"

    @property
    def epoch(self) -> int:
        """Seconds since 1970 that every date in the package is cut to.

        $SOURCE_DATE_EPOCH (reproducible-builds.org), else the last commit's time, else the change log's.

        Raises:
            BuildError: $SOURCE_DATE_EPOCH is no number.
        """
        given = os.environ.get("SOURCE_DATE_EPOCH") or self._committed_at()
        if not given:
            return int((self.root / "CHANGELOG.md").stat().st_mtime)
        if not given.isdecimal():
            raise BuildError(f"SOURCE_DATE_EPOCH is {given!r}, not a number of seconds; unset or correct it")
        return int(given)

    def _committed_at(self) -> str:
        return self._git("log", "-1", "--format=%ct")

    def _git(self, *words: str) -> str:
        """Return what git says; "" where it does not."""
        command = ["git", "-C", str(self.root), *words]
        try:
            return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
        except OSError:
            return ""

    @property
    def commit(self) -> str:
        """The commit that this tree is, as `git archive` noted it or git says it; "" where it is none, or was changed since."""
        noted = self.text("agent/data/commit.txt").strip()
        if re.fullmatch(r"[0-9a-f]{40,64}", noted):
            return noted
        if not (self.root / ".git").exists() or self._git("status", "--porcelain"):
            return ""
        return self._git("rev-parse", "HEAD")

    def completion(self, shell: str) -> str:
        """The completion of a shell, as `keyturn completion` prints it.

        Raises:
            BuildError: the checkout has no such command line.
        """
        return str(self._module("agent.cli.manual.completions").SHELLS[shell](self._command_line()))

    def man_pages(self) -> dict[str, str]:
        """Every man page by its file name: those that `keyturn man` prints, and keyturn.toml.5.

        Raises:
            BuildError: the checkout has no such command line.
        """
        date = time.strftime("%Y-%m-%d", time.gmtime(self.epoch))
        made = self._module("agent.cli.manual.pages")
        config = made.config_page(self.text("docs/config.md"), self.version, date)
        return {**made.pages(self._command_line(), self.version, date), "keyturn.toml.5": config}

    def _command_line(self) -> Any:
        parser = self._module("agent.cli.command_line").parser()
        return self._module("agent.cli.manual.commands").read(parser)

    def _module(self, name: str) -> Any:
        """A module of the checkout: of the parser that keyturn itself uses, and what is made of it; it needs no library."""
        sys.path.insert(0, str(self.root))
        try:
            return importlib.import_module(name)
        except ImportError as error:
            raise BuildError(f"{self.root}: {name} cannot be imported ({error}); build from a checkout") from None
        finally:
            sys.path.remove(str(self.root))

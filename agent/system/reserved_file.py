"""A file for its user alone that is written later: that it can be is seen beforehand, and its directory is held open."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from agent.core.errors import KeyturnError, NotPermittedError
from agent.core.problem import Problem
from agent.system import files
from agent.system.oserrors import explain, is_permission


class ReservedFile:
    """One file that is to come. `write` puts it there whole, with mode 0600, and never through a link."""

    def __init__(self, path: str) -> None:
        """Open its directory, and try that a file can be made there.

        Raises:
            NotPermittedError: this user may not write there.
            KeyturnError: it cannot be written, or something else than a file has its name.
        """
        self.path = path
        self._name = Path(path).name
        if not self._name or path.endswith("/"):
            raise KeyturnError(f"{path}: this names no file", "name a file")
        try:
            self._directory = os.open(Path(path).parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise self._cannot(error) from error
        try:
            self._try()
        except OSError as error:
            self.close()
            raise self._cannot(error) from error
        except BaseException:
            self.close()
            raise

    def refuse(self, own: Iterable[Path]) -> None:
        """Raise where it is one of these files, by whatever path: they would be lost.

        Raises:
            KeyturnError: it is.
        """
        for file in own:
            with contextlib.suppress(OSError):
                there = os.stat(self._name, dir_fd=self._directory, follow_symlinks=False)
                if os.path.samestat(there, os.stat(file)):
                    raise KeyturnError(f"{self.path}: keyturn needs this file: it would be lost", "name another file")

    def close(self) -> None:
        """Let go of the directory."""
        os.close(self._directory)

    def write(self, content: bytes) -> None:
        """Write the whole file in the place of what had its name; a reader sees the old or the new one.

        Raises:
            KeyturnError: it cannot be written; what was there is as it was.
        """
        try:
            self._refuse_others()
            files.write_atomic_in(self._directory, self._name, content, 0o600)
        except OSError as error:
            raise self._cannot(error) from error

    def _try(self) -> None:
        self._refuse_others()
        probe = files.temp_name(self._name)
        os.close(files.create(probe, 0o600, self._directory))
        os.unlink(probe, dir_fd=self._directory)

    def _refuse_others(self) -> None:
        """Raise where a link, a device or the like has its name: it would be lost, or would lead elsewhere."""
        with contextlib.suppress(FileNotFoundError):
            found = os.stat(self._name, dir_fd=self._directory, follow_symlinks=False)
            if not stat.S_ISREG(found.st_mode):
                raise KeyturnError(f"{self.path}: what has this name is no regular file", "name another file")

    def _cannot(self, error: OSError) -> KeyturnError:
        missing = Problem("its directory is not there", "make the directory, or name another file")
        problem = missing if error.errno == errno.ENOENT else explain(error, self.path)
        kind = NotPermittedError if is_permission(error) else KeyturnError
        return kind(f"{self.path}: it cannot be written: {problem.text}", problem.remedy)

"""A file for its user alone that is made once, and takes the place of nothing."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from agent.core.errors import KeyturnError, NotPermittedError
from agent.system import files
from agent.system.oserrors import explain, is_permission


def write_new(path: str, content: bytes) -> None:
    """Write a new file with mode 0600, whole or not at all.

    Raises:
        NotPermittedError: this user may not write there.
        KeyturnError: the name is taken, by a link too, or it cannot be written.
    """
    place = Path(path)
    try:
        directory = os.open(place.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise _cannot(path, error) from error
    try:
        fd = files.create(place.name, 0o600, directory)
        try:
            files.write_all(fd, content)
        except OSError:
            os.unlink(place.name, dir_fd=directory)
            raise
        finally:
            os.close(fd)
    except OSError as error:
        raise _cannot(path, error) from error
    finally:
        os.close(directory)


def _cannot(path: str, error: OSError) -> KeyturnError:
    if error.errno in (errno.EEXIST, errno.ELOOP):
        return KeyturnError(
            f"{path}: there is something by that name already, and nothing is overwritten", "name another file"
        )
    why = explain(error, path)
    kind = NotPermittedError if is_permission(error) else KeyturnError
    return kind(f"{path}: it cannot be written: {why.text}", why.remedy)

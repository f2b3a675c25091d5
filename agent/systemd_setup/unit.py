"""The installed unit with its drop-ins, as systemd finds them.

The daemon looks here at its start and at a reload, so this module imports nothing of what plans and writes drop-ins.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from agent.core.errors import KeyturnError, NotPermittedError, StateError
from agent.system import files
from agent.system.accounts import user_name
from agent.system.oserrors import explain, is_permission
from agent.system.systemd_credentials import OF_THE_SERVICE, with_sources
from agent.system.systemd_unit import drop_ins, installed, is_ours, service_lines

__all__ = [
    "credential_sources",
    "fragments",
    "installed",
    "is_ours",
    "refusal",
    "service_lines",
    "standing_at",
    "with_credentials",
]

_LIMIT = 1024 * 1024


def with_credentials(environ: Mapping[str, str], root: Path = Path("/")) -> Mapping[str, str]:
    """Return the environment with `$CREDENTIALS_DIRECTORY` as in the unit, where it is not set and the unit is installed.

    Otherwise the config of a service could not even be read outside of it, by `status`, `audit verify` or `check`. The
    environment also gets the sources of the files that systemd puts there (agent/system/systemd_credentials.py).
    """
    if "CREDENTIALS_DIRECTORY" in environ or installed(root) is None:
        return environ
    return with_sources({**environ, "CREDENTIALS_DIRECTORY": OF_THE_SERVICE}, credential_sources(root))


def credential_sources(root: Path = Path("/")) -> dict[str, str]:
    """Return name -> source of the files that unit and drop-ins have systemd hand over; "" for an encrypted one.

    The last line for a name counts, and an empty one resets all (systemd.exec(5)). A drop-in that this user may not read
    is ignored.
    """
    found: dict[str, str] = {}
    try:
        parts = fragments(root)
        texts = [installed(root) or "", *(parts[name] for name in sorted(parts))]
    except KeyturnError:
        return found
    for key, value in (line for text in texts for line in service_lines(text)):
        if key not in ("LoadCredential", "LoadCredentialEncrypted"):
            continue
        name, _colon, path = value.strip('"').replace("%%", "%").partition(":")
        if not name:
            found.clear()
        elif key == "LoadCredentialEncrypted":
            found[name] = ""
        else:
            found[name] = path if path.startswith("/") else f"/etc/credstore/{path or name}"
    return found


def fragments(root: Path = Path("/")) -> dict[str, str]:
    """Return name -> text of the unit's drop-ins; a directory hides the later ones of systemd.unit(5)."""
    return {name: standing_at(Path(path)) or "" for name, path in drop_ins(root).items()}


def standing_at(path: Path) -> str | None:
    """Return the text of a file; None where there is none.

    Raises:
        NotPermittedError: this user may not read it.
        StateError: it cannot be read.
    """
    try:
        found = files.read_regular(path, _LIMIT)
    except OSError as error:
        raise refusal(error, path, "read") from error
    return None if found is None else found.decode("utf-8", "replace")


def refusal(error: OSError, path: Path, what: str) -> KeyturnError:
    """Return the error for a file that cannot be read or written ("read", "write")."""
    if is_permission(error):
        return NotPermittedError(f"{path}: user {user_name()} may not {what} it", "run this as root")
    return StateError.of(explain(error, str(path)).at(f"{path}: cannot {what} it"))

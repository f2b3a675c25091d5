"""The files that systemd hands to keyturn.service (LoadCredential=), seen from outside of it, by `keyturn check` in a shell.

They lie below $CREDENTIALS_DIRECTORY only while the service runs, and as they were at its start. The files that the next
start or reload will hand over lie elsewhere and are readable by root: `agent.systemd_setup.unit` reads from the unit where,
and puts that into the environment (`SOURCES`) of a check from outside. Inside the service the variable is not set and
`seen_at` changes nothing; after a reload the service only asks whether the files were replaced meanwhile (`outdated`).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import PurePosixPath

from agent.core.errors import CredentialFileError, NotPermittedError
from agent.system.accounts import user_name

SOURCES = "KEYTURN_CREDENTIAL_SOURCES"
"""The variable of a check from outside: JSON, name -> path; "" for a credential that is encrypted."""
USUAL = "/etc/keyturn"
"""The directory of the config and of the credentials' sources, for keyturn.service and `keyturn systemd-setup`."""
OF_THE_SERVICE = "/run/credentials/keyturn.service"
"""$CREDENTIALS_DIRECTORY of the unit (systemd.exec(5))."""
AS_THE_SERVICE = 'run this as root, or check as the service: eval "$(keyturn systemd-setup --check-command)"'


def with_sources(environ: Mapping[str, str], sources: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for a check from outside."""
    return {**environ, SOURCES: json.dumps(dict(sources))}


def source(name: str, environ: Mapping[str, str]) -> str | None:
    """Return the source file of a credential, "" where it is encrypted, None inside of the service."""
    told = environ.get(SOURCES)
    if told is None:
        return None
    return str(json.loads(told).get(name, f"{USUAL}/{name}"))


def by_source(text: str, directory: str, environ: Mapping[str, str]) -> str:
    """Return a text in which the files below a credentials directory are named by their sources, for a look from outside.

    Nobody can put a file into such a directory; the text is one of a service's or of a check that ran as it.
    """

    def named(found: re.Match[str]) -> str:
        return source(found[1], environ) or found[0]

    return re.sub(rf"{re.escape(directory)}/([A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*)", named, text)


def outdated(sources: Mapping[str, str], environ: Mapping[str, str]) -> list[str]:
    """Return which files were replaced after systemd handed them over. The service can ask this without reading them."""
    directory = environ.get("CREDENTIALS_DIRECTORY")
    found = []
    for name, path in sources.items() if directory else ():
        try:
            if path and os.stat(path).st_ctime_ns > os.stat(f"{directory}/{name}").st_mtime_ns:
                found.append(path)
        except OSError:
            continue  # not there, or in a directory that is closed to us
    return found


def seen_at(path: str, environ: Mapping[str, str]) -> str:
    """Return where to read a file: at its path, or, for a check from outside, at the source that systemd will hand over.

    Raises:
        CredentialFileError: that is missing, or encrypted and not handed over yet.
        NotPermittedError: this user may not read it.
    """
    directory, name = PurePosixPath(environ.get("CREDENTIALS_DIRECTORY") or "/"), PurePosixPath(path).name
    if PurePosixPath(path).parent == PurePosixPath(OF_THE_SERVICE) != directory != PurePosixPath("/"):
        return str(directory / name)  # a file that knows no variables named it; a check as the service has its own copy
    found = source(name, environ) if PurePosixPath(path).parent == directory else None
    if found is None:
        return path
    if not found and os.path.exists(path):
        return path
    if not found:
        problem = f"{path}: it is encrypted (LoadCredentialEncrypted=), and the service alone gets to read it"
        raise CredentialFileError(
            problem, 'check as the service, as root: eval "$(keyturn systemd-setup --check-command)"'
        )
    _look(found, name)
    return found


def remedy_for_missing(path: str) -> str:
    """Return what to do about a file that is missing: nobody but systemd can put one below /run/credentials."""
    if not path.startswith("/run/credentials/"):
        return "put it there, or correct the path"
    return (
        "systemd hands it to the service alone: `keyturn systemd-setup --install`, then `systemctl restart keyturn`, "
        "or `systemctl start keyturn-once` for one pass"
    )


def _look(found: str, name: str) -> None:
    try:
        os.stat(found)
    except FileNotFoundError:
        raise CredentialFileError(
            f"{found}: this file is missing, which systemd hands to keyturn.service as {name}",
            "put the secret there, then start keyturn, or `systemctl reload keyturn` where it runs",
        ) from None
    except OSError:
        pass  # the directory is closed to this user
    if not os.access(found, os.R_OK, effective_ids=True):
        raise NotPermittedError(
            f"{found}: user {user_name()} may not read this file, which systemd hands to keyturn.service as {name}",
            AS_THE_SERVICE,
        )

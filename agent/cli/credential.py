"""`keyturn credential`: the value in use, on standard output, for the programs that Alibaba's SDKs and ossfs run.

An SDK runs it again and again, as the application's user and with the application's environment. Decisions:
* It imports no more than it needs: sixty workers may each run it once a minute (agent/cli/entry.py).
* The config may not be readable for that user (0640 root:keyturn). It is read only where no daemon of it is at the usual places.
* $RUNTIME_DIRECTORY is most likely the application's own, from its unit: it counts only where credentials.sock is in it.
* What listens is believed if it is run by root, by this user, or by the user to whom root gave the socket's directory:
  anybody can put a socket into a directory of theirs, and a false key would send data to a stranger's account.
* The document is written in one write, once all of it is here. Errors go to standard error and hold no part of it.
* A daemon that is being restarted, or has no value yet because it just was, is waited for, for `RESTART_S`: the SDKs raise at
  once where their command fails. systemd starts it five seconds after a crash (RestartSec=); ossfs gives the command ten.
"""

from __future__ import annotations

import json
import os
import resource
import socket
import sys
import time

TYPE_CHECKING = False  # mypy knows this name; `typing` would cost as much as all the rest
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

SOCKET_NAME = "credentials.sock"
RUNTIME_DIRECTORY = "/run/keyturn"
DEFAULT_CONFIG = "/etc/keyturn/keyturn.toml"
ANSWER_S = 4.0
"""Seconds for an answer of a daemon that is there. One that hangs is asked twice before a file is read, and ossfs gives ten."""
RESTART_S = 9.0
"""Seconds for which a daemon is waited for that is not there, or has no value, and no published file can be read."""
PAUSE_S = 0.2
EXIT_TEMPORARY = 75
EXIT_USAGE = 2
MAX_ANSWER = 1024 * 1024
MAX_CONFIG = 1024 * 1024
MAX_SOCKET_PATH = 100  # sun_path holds 108 bytes (unix(7))


class NoDaemonError(Exception):
    """The error that nothing answers on a socket, it went away before it had answered, or it serves another config."""


class StrangerError(Exception):
    """The error that what listens is not to be believed; nothing was asked of it. `args`: its directory and its uid."""


def printed(config: str | None, name: str, form: str) -> bool:
    """Print the daemon's document; return False where there is none, whatever the reason. Raises nothing."""
    _forbid_core_dump()
    if sys.stdout is None:  # closed by whoever started us: descriptor 1 may be our own socket
        return False
    try:
        answer = _asked(config or os.environ.get("KEYTURN_CONFIG") or DEFAULT_CONFIG, name, form)
        if answer is None or "error" in answer[0]:
            return False
        _write(answer[1])
    except (OSError, StrangerError):
        return False
    return True


def credential(options: argparse.Namespace) -> int:
    """Print the document; return the exit code.

    Raises:
        KeyturnError: there is none for this user; at once where a directory on the way is closed, which no waiting opens.
    """
    ends = time.monotonic() + RESTART_S
    document, problem = _whole(options)
    if document is None and problem is None:
        from agent.cli import credential_from_files  # which takes ten times as long

        document, problem = credential_from_files.read(options.config, options.name, options.format)
        if document is None:
            credential_from_files.refuse_closed(options.config, options.name, _named_in(options.config))
            if getattr(problem, "exit_code", None) == EXIT_USAGE:
                raise problem  # there is no such credential: no daemon that comes back will have it
    while document is None and time.monotonic() < ends:
        time.sleep(PAUSE_S)
        document, later = _whole(options)
        problem = later or problem
    if document is None:
        assert problem is not None
        raise problem
    _write(document)
    return 0


def _whole(options: argparse.Namespace) -> tuple[bytes | None, Exception | None]:
    """Return the daemon's document, or None and why it has none just now; neither where no daemon answers.

    Raises:
        KeyturnError: the daemon refuses for good, or is nobody to be believed.
    """
    try:
        answer = _asked(options.config, options.name, options.format)
    except StrangerError as error:
        raise _untrusted(*error.args) from None
    if answer is None:
        return None, None
    header, document = answer
    if header.get("exit_code") == EXIT_TEMPORARY:
        return None, _refused(header)
    if "error" in header:
        raise _refused(header)
    return document, None


def _write(document: bytes) -> None:
    rest, out = memoryview(document), sys.stdout.fileno()
    while rest:  # a pipe takes it at once
        rest = rest[os.write(out, rest) :]


def _forbid_core_dump() -> None:
    """Have this process leave no core: with a limit of 1 the kernel also starts no handler (core(5)), as with 0 it would."""
    for soft in (1, 0):
        try:
            resource.setrlimit(resource.RLIMIT_CORE, (soft, resource.getrlimit(resource.RLIMIT_CORE)[1]))
            return
        except (OSError, ValueError):
            continue


def _asked(config: str, name: str, form: str) -> tuple[dict[str, object], bytes] | None:
    """Return the header and the document of the daemon's answer; None where no daemon answers.

    Raises:
        StrangerError: what listens is not to be believed.
    """
    request = {"credential": name, "format": form}
    if config != DEFAULT_CONFIG:
        request["config"] = os.path.realpath(config)
    for directory in _directories(config):
        try:
            return _exchange(directory, request)
        except NoDaemonError:
            continue
    return None


def _directories(config: str) -> Iterator[str]:
    """Yield where the socket may be, the likeliest first; the config is read last, which takes a parser."""
    own = os.environ.get("RUNTIME_DIRECTORY", "").split(":")
    usual = [one for one in [*filter(None, own), RUNTIME_DIRECTORY] if os.path.exists(f"{one}/{SOCKET_NAME}")]
    yield from usual
    named = _named_in(config)
    if named is not None and named not in usual:
        yield named


def _named_in(config: str) -> str | None:
    """Return the `agent.runtime_directory` of a config, as the daemon reads it; None where it names none, or cannot be read."""
    import re
    import tomllib

    try:
        # Of a FIFO, or an endless device, no more than is there.
        with open(os.open(config, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC), "rb") as file:
            text = (file.read(MAX_CONFIG) or b"").decode("utf-8-sig")
        named = dict(tomllib.loads(text)["agent"])["runtime_directory"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    if not isinstance(named, str):
        return None
    return re.sub(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}", lambda match: os.environ.get(match[1], ""), named)


def _exchange(directory: str, request: dict[str, str]) -> tuple[dict[str, object], bytes]:
    """Return the header and the document of the daemon's answer.

    Raises:
        NoDaemonError: there is no whole one, or another config is served there.
        StrangerError: what listens is not to be believed; nothing was asked of it.
    """
    ends = time.monotonic() + ANSWER_S
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as channel:
        channel.settimeout(ANSWER_S)
        try:
            _connect(channel, directory)
        except OSError:
            raise NoDaemonError from None
        _refuse_stranger(channel, directory)
        try:
            channel.sendall(json.dumps(request).encode() + b"\n")
        except OSError:
            pass  # turned away before we spoke: the reason can still be read
        answer = b""
        try:
            while len(answer) <= MAX_ANSWER and (got := channel.recv(65536)):
                answer += got
                channel.settimeout(max(0.001, ends - time.monotonic()))
        except OSError:
            raise NoDaemonError from None
    line, _feed, document = answer.partition(b"\n")
    try:
        header = dict(json.loads(line))
    except (ValueError, TypeError):
        raise NoDaemonError from None
    if header.get("other_config") or ("error" not in header and header.get("length") != len(document)):
        raise NoDaemonError
    return header, document


def _connect(channel: socket.socket, directory: str) -> None:
    path = f"{directory}/{SOCKET_NAME}"
    if len(os.fsencode(path)) <= MAX_SOCKET_PATH:
        channel.connect(path)
        return
    held = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        channel.connect(f"/proc/self/fd/{held}/{SOCKET_NAME}")
    finally:
        os.close(held)


def _refuse_stranger(channel: socket.socket, directory: str) -> None:
    raw = channel.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)  # pid, uid, gid
    uid = int.from_bytes(raw[4:8], sys.byteorder)
    if uid not in (0, os.geteuid()) and not _given_by_root(directory, uid):
        raise StrangerError(directory, uid)


def _untrusted(directory: str, uid: int) -> Exception:
    from agent.core.errors import NotPermittedError

    return NotPermittedError(
        f"{directory}/{SOCKET_NAME}: what answers there is run by uid {uid}, who is neither root nor this user, in a directory "
        "that root has not given to them; nothing was asked of it",
        f"see whose {directory} is, and name a directory of root's or of keyturn's user in `agent.runtime_directory`",
    )


def _given_by_root(directory: str, uid: int) -> bool:
    """Return whether a directory is a user's, and nobody else could have put it, or another one, there."""
    place = os.path.realpath(directory)
    try:
        if os.stat(place).st_uid != uid:
            return False
        while True:
            found = os.stat(place)
            if found.st_uid not in (0, uid) or found.st_mode & 0o022:
                return False
            if place == "/":
                return True
            place = os.path.dirname(place)
    except OSError:
        return False


def _refused(header: dict[str, object]) -> Exception:
    from agent.core.errors import KeyturnError

    error = KeyturnError(str(header["error"]))
    code = header.get("exit_code")
    error.exit_code = code if isinstance(code, int) else 1
    return error

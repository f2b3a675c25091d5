"""`keyturn credential` where no daemon answers: the value is read back from a published file, by the rights of whoever asks."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import datetime, timedelta

from agent.app import wiring
from agent.cli.parsers import DEFAULT_CONFIG
from agent.config.outline import RUNTIME_DIRECTORY
from agent.core.credential import Credential
from agent.core.errors import ConfigError, DaemonUnreachableError, KeyturnError, NotPermittedError, UsageError
from agent.core.names import known_names
from agent.serving.document import HOLD_S, WINDOWS_S, Format, document, named_expiry
from agent.serving.server import SOCKET_NAME
from agent.sinks.interface import Sink
from agent.sinks.offered import first_offered
from agent.system.accounts import user_name
from agent.system.clock import Clock
from agent.system.passage import closed_to_this_process, opening

START = "start it (systemctl start keyturn), or look at its log"


def read(config: str, name: str, form: str) -> tuple[bytes | None, KeyturnError]:
    """Return the document, or None and the error that there is none."""
    place = f"credentials.{name}: the daemon does not answer"
    try:
        settings = wiring.load_settings(config, os.environ)
    except NotPermittedError:
        return None, DaemonUnreachableError(
            f"{place}, and this user may not read {config}, which says where the value is published", START
        )
    except ConfigError as error:
        return None, DaemonUnreachableError(f"{place}, and the config cannot be used ({error.problems[0]})", START)
    try:
        known_names(list(settings.credentials), [name])
    except UsageError as error:
        return None, error
    entry = settings.credentials[name]
    sinks = wiring.Factory(settings, os.environ).sinks(name)
    now = Clock().now()
    value = _living(sinks, now)
    if value is None:
        return None, DaemonUnreachableError(f"{place}, and {_which(sinks)}", START)
    hold_s = float(entry.serve.hold) if entry.serve is not None else HOLD_S
    return _document(value, Format(form), now, hold_s), DaemonUnreachableError(place, START)


def refuse_closed(config: str, name: str, named: str | None) -> None:
    """Raise an error where this user can reach neither the daemon nor the word of where it is.

    That users may not enter the directory of the usual config is as it should be: its daemon is at the usual place.

    Args:
        config: the path of the config.
        name: of the credential, for the message.
        named: the `agent.runtime_directory` of the config; None where it names none, or cannot be read.

    Raises:
        NotPermittedError: a directory on the way is closed.
    """
    wanted = [f"{named or RUNTIME_DIRECTORY}/{SOCKET_NAME}", *([config] if config != DEFAULT_CONFIG else [])]
    for path in wanted:
        closed = closed_to_this_process(path)
        if closed:
            raise NotPermittedError(
                f"credentials.{name}: {' and '.join(closed)} is closed to user {user_name()}, who cannot reach {path}",
                f"as root or its owner: `{opening(closed)}`",
            )


def _living(sinks: tuple[Sink, ...], now: datetime) -> Credential | None:
    """Return the first value that has not expired, as far as any of the files says when it does: not every format can."""
    expiries: dict[str, datetime] = {}

    def is_dated(found: Credential) -> bool:
        if found.expiration is not None:
            expiries[found.access_key_id] = found.expiration
        return False

    first_offered(sinks, is_dated)  # looks at all
    found = first_offered(sinks, lambda one: expiries.get(one.access_key_id, now + timedelta(days=1)) > now)
    return found and replace(found, expiration=expiries.get(found.access_key_id))


def _document(value: Credential, form: Format, now: datetime, hold_s: float) -> bytes:
    return document(value, form, named_expiry(value.expiration, now, WINDOWS_S[form], hold_s))


def _which(sinks: tuple[Sink, ...]) -> str:
    readable = [sink.target for sink in sinks]
    if not readable:
        return "it is published to no file from which it could be read"
    return f"this user can read it from none of its files: {', '.join(readable)}"

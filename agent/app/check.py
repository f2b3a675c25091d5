"""`keyturn check`: every problem that can be found before it does harm. Writes nothing and tells no dependent.

Each finding is a line with its place, and a failure names its remedy. A part that fails does not keep the others
from being looked at. A provider is asked on a thread of its own, which is left behind when its time is up, so that
one that hangs (docs/third_party.md) does not hang the command.
"""

from __future__ import annotations

import os
import shlex
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TypeVar

from agent.app import check_ram_user, wiring
from agent.app.check_applications import findings as application_findings
from agent.app.check_daemon import daemon_findings
from agent.app.check_fleet import findings as fleet_findings
from agent.audit.preflight import log_problem
from agent.control.runtime_directory import runtime_problem
from agent.core.credential import Credential
from agent.core.errors import BadAnswerError, KeyturnError, NotPermittedError, SourceUnavailableError
from agent.core.finding import BEGINS, Finding
from agent.core.problem import Problem
from agent.core.provider import FETCH_TIMEOUT_S, Provider
from agent.core.rotatable import Rotatable
from agent.core.settings import Settings
from agent.core.text import counted
from agent.core.timestamps import rfc3339
from agent.endpoint.check import findings as endpoint_findings
from agent.engine.key_holders import shared_secrets
from agent.metrics.check import findings as seen_from_outside
from agent.notifiers import known_readers
from agent.refresh.managed_credential import ManagedCredential, is_bearer
from agent.sinks.check import inspect
from agent.sinks.interface import Sink
from agent.sinks.offered import can_be_read_back
from agent.sinks.transaction import transaction
from agent.state.store import StateStore, directory_problem
from agent.system.accounts import find_account
from agent.system.clock import Clock
from agent.system.free_space import write_problem
from agent.system.process import probe_problem
from agent.system.systemd_unit import agent_user, make_directory
from agent.system.trusted_path import writers_problem
from agent.systemd_setup import as_service
from agent.systemd_setup import check as setup_check

T = TypeVar("T")
HMAC_KEY_FILE = "agent.audit.hmac_key_file"
VERIFY_S = 10.0
INSPECT_S = 10.0
"""Seconds for `inspect` of a provider, which is to look at local files only."""
FETCH_S = FETCH_TIMEOUT_S + 5.0


def findings(settings: Settings, path: str, environ: Mapping[str, str], *, offline: bool) -> Iterator[Finding]:
    """Return what `looks` does, without the announcements."""
    return (one for one in looks(settings, path, environ, offline=offline) if one.level != BEGINS)


def looks(settings: Settings, path: str, environ: Mapping[str, str], *, offline: bool) -> Iterator[Finding]:
    """Look at everything that the config names, and announce each look that may take seconds.

    Args:
        settings: the config, already valid.
        path: its file.
        environ: the environment of the agent.
        offline: leave out whatever needs the network.
    """
    yield Finding("ok", path, f"the config is valid: {counted(len(settings.credentials), 'credential')}")
    path = os.path.abspath(path)  # the service's config is the service's, also as `cd /etc/keyturn` names it
    set_up = list(setup_check.findings(settings, path, environ))
    yield from set_up
    state, runtime, _audit = wiring.paths(settings)
    yield from daemon_findings(state, runtime, path, environ, start=_start(path) if _is_asked(settings) else "")
    if os.geteuid() == 0 or not _is_the_services(path):  # not again in the sandbox, which hides directories from all
        yield from application_findings(settings, path, runtime)
    if as_service.applies(path):
        yield Finding("ok", setup_check.PLACE, "what follows is seen as the service, by its user and in its sandbox")
        yield Finding.begins(setup_check.PLACE, "the service's user looks at everything")
        try:
            yield from as_service.findings(settings, path, environ, offline=offline)
            return
        except KeyturnError as error:
            unseen = Finding.of("error", setup_check.PLACE, error.as_problem())
            yield from [unseen] if unseen not in set_up else []
    others = list(setup_check.seen_by_somebody_else(path))
    yield from others
    if others and os.geteuid() != 0:
        return  # whose remedies would give the service's files to that user
    yield from _seen_by_this_process(settings, path, environ, offline)


def _seen_by_this_process(
    settings: Settings, path: str, environ: Mapping[str, str], offline: bool
) -> Iterator[Finding]:
    """Yield what the user who runs this process finds, with the rights that this process has."""
    yield from _directories(settings, path)
    yield from _hmac_key(settings, environ)
    yield from seen_from_outside(settings.agent)
    yield from endpoint_findings(settings)
    parts = wiring.Factory(settings, environ, config_path=path)
    yield from fleet_findings(settings, parts.hostname, environ, offline=offline)
    credentials = parts.credentials()
    yield from _shared(credentials)
    states = StateStore(wiring.paths(settings)[0])
    for managed in credentials:
        with suppress(NotPermittedError):  # what is remembered is asked for the age of its key only
            managed.remember(states.peek(managed.name))
        yield from _credential(managed, offline, has_fleet=settings.fleet is not None)
        yield from _emergency(parts, managed, offline)
        if not offline:
            yield from check_ram_user.findings(parts, managed, Clock().now(), has_fleet=settings.fleet is not None)
            if check_ram_user.waits_for_first_key(managed, has_fleet=settings.fleet is not None):
                yield from check_ram_user.first_key_findings(managed, settings, environ)


def _shared(credentials: Sequence[ManagedCredential]) -> Iterator[Finding]:
    """Name the secrets that several credentials share: the emergency of one is the emergency of all."""
    for secret, names in shared_secrets(credentials).items():
        first, *others = (f"credentials.{name}" for name in names)
        what = (
            f"secret {secret} is shared with {', '.join(others)}: `keyturn rotate` of one refreshes and tells them all"
        )
        yield Finding("ok", f"{first}.provider", what)


def _directories(settings: Settings, path: str) -> Iterator[Finding]:
    state, runtime, audit = wiring.paths(settings)
    yield _writable("agent.state_directory", state, "0700", problem=directory_problem(state))
    yield _writable("agent.runtime_directory", runtime, "0755")
    yield _writable("agent.audit.path", audit.parent, "0750", is_made=False)
    others = (
        writers_problem(audit.parent.stat(), str(audit.parent), heir=agent_user()) if audit.parent.is_dir() else None
    )
    if others:
        yield Finding.of("warning", "agent.audit.path", others)
    account = find_account(agent_user())
    exposed = runtime_problem(runtime, account.uid if account is not None else os.geteuid())
    if exposed:
        yield Finding.of("error", "agent.runtime_directory", exposed)
    problem = log_problem(audit, of_the_service=_is_the_services(path))
    if problem:
        yield Finding.of("error", "agent.audit.path", problem)


def _hmac_key(settings: Settings, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Try the key of the audit: without it keyturn does not start."""
    named = settings.agent.audit.hmac_key_file
    if named is None:
        return
    try:
        wiring.hmac_key(settings, environ)
    except KeyturnError as error:
        yield Finding.of("error", HMAC_KEY_FILE, error.without_place().as_problem())
    else:
        yield Finding("ok", HMAC_KEY_FILE, f"{named}: audit records are authenticated")


def _is_the_services(path: str) -> bool:
    try:
        return setup_check.is_the_services(path)
    except KeyturnError:  # the setup says it
        return False


def _is_asked(settings: Settings) -> bool:
    return settings.agent.endpoint is not None or any(one.serve is not None for one in settings.credentials.values())


def _start(path: str) -> str:
    """Return the command that runs the daemon of a config."""
    return "systemctl start keyturn" if _is_the_services(path) else shlex.join((*wiring.keyturn_command(path), "run"))


def _writable(key: str, directory: Path, mode: str, *, is_made: bool = True, problem: Problem | None = None) -> Finding:
    """Return whether a directory of keyturn's own can be used, or will be made: not all are (`is_made`)."""
    if problem is None and directory.exists() and not directory.is_dir():
        return Finding("error", key, f"{directory} is not a directory", make_directory(directory, mode))
    problem = problem or write_problem(directory if directory.is_dir() else directory.parent)
    if problem:
        return Finding.of("error", key, problem)
    if directory.is_dir():
        if os.access(directory, os.W_OK | os.X_OK, effective_ids=True):
            return Finding("ok", key, f"{directory} can be written")
        return Finding(
            "error",
            key,
            f"{directory} cannot be written by uid {os.geteuid()}",
            f"chown {agent_user()} {shlex.quote(str(directory))}",
        )
    parent = directory.parent
    if is_made and parent.is_dir() and os.access(parent, os.W_OK | os.X_OK, effective_ids=True):
        return Finding("ok", key, f"{directory} will be made")
    return Finding("error", key, f"{directory} does not exist", make_directory(directory, mode))


def _credential(managed: ManagedCredential, offline: bool, *, has_fleet: bool) -> Iterator[Finding]:
    place = f"credentials.{managed.name}"
    local = []
    for finding in _local(place, managed):
        local.append(finding)
        yield finding
    for finding in check_ram_user.local_findings(managed, has_fleet=has_fleet):
        local.append(finding)
        yield finding
    if offline:
        yield from _age(place, managed, None, Clock().now())
        return
    wrong = {finding.place.removeprefix(f"{place}.").partition("[")[0] for finding in local if finding.level == "error"}
    if check_ram_user.waits_for_first_key(managed, has_fleet=has_fleet):
        return  # what is there instead, its own findings say
    yield from _value(place, managed, {part.partition(".")[0] for part in wrong})


def _age(place: str, managed: ManagedCredential, value: Credential | None, now: datetime) -> Iterator[Finding]:
    """Yield that a key is older than `max_age`: the value that was fetched, as its source says, or else the one in use."""
    limit_s, due_at, text = managed.settings.max_age, managed.too_old_at(), managed.too_old_text()
    if value is not None and value.created_at is not None and value.expiration is None and limit_s is not None:
        due_at = min(value.created_at, now) + timedelta(seconds=float(limit_s))
        text = f"{value.access_key_id} was made at {rfc3339(value.created_at)} and is older than max_age allows"
    if due_at is not None and due_at <= now:
        remedy = "rotate it at its source (`keyturn rotate` does, for a secret of KMS), or allow it more"
        yield Finding("warning", f"{place}.max_age", text, remedy)


def _local(place: str, managed: ManagedCredential) -> Iterator[Finding]:
    """Yield what can be seen on this machine."""
    yield Finding.begins(f"{place}.provider", "its files are looked at")
    yield from _inspected(f"{place}.provider", managed.provider)
    for number, sink in enumerate(managed.sinks):
        yield from (
            replace(found, place=f"{place}.sinks[{number}]", text=_named(sink, found)) for found in inspect(sink)
        )
        problem = write_problem(Path(sink.path).parent)
        if problem:
            yield Finding.of("error", f"{place}.sinks[{number}]", problem)
        if sink.process_command and managed.settings.serve is None:
            ask = f"add `[{place}.serve]` with `users`, those whom the application runs as"
            nobody = "its readers ask keyturn for the value, and nobody but root and keyturn's own user may"
            yield Finding("warning", f"{place}.sinks[{number}]", nobody, ask)
        known = filter(None, map(known_readers.of_sink, dict.fromkeys(sink.formats)))
        yield from (Finding("ok", f"{place}.sinks[{number}].readers", f"{text} (docs/consumers.md)") for text in known)
    blind = managed.settings.canary and not managed.is_served
    if blind and not any(can_be_read_back(sink) for sink in managed.sinks):
        remedy = "add [credentials.NAME.serve] or a sink of another type, or leave `canary` out"
        yield Finding("warning", f"{place}.canary", "has nothing to sign with: no sink can be read back", remedy)
    for number, notifier in enumerate(managed.notifiers):
        where = f"{place}.notify[{number}]"
        yield from _placed(where, notifier.inspect())
        problem = probe_problem(notifier.settings.pickup) if notifier.settings.pickup else None
        if problem:
            yield Finding.of("error", f"{where}.pickup.command", problem)
        cannot = notifier.hindered(managed.formats)
        if cannot:
            yield Finding.of("warning", where, cannot.problem)


def _value(place: str, managed: ManagedCredential, wrong: Collection[str]) -> Iterator[Finding]:
    """Yield what the source, STS and the value itself say; what is wrong already is not said twice."""
    now = Clock().now()
    if "provider" in wrong:
        yield from _age(place, managed, None, now)
        return
    yield Finding.begins(f"{place}.provider", "is asked for the value")
    value, finding = _tried(f"{place}.provider", lambda: _fetched(managed.provider, now))
    yield from _age(place, managed, value, now)
    if value is None:
        yield finding
        return
    named = f"{value.kind} {value.access_key_id}".strip()
    yield Finding(
        "ok", f"{place}.provider", f"fetched {named}" + (f", version {value.version_id}" if value.version_id else "")
    )
    yield from _proof(place, managed, value)
    for number, sink in enumerate(managed.sinks):
        for warning in sink.warnings_for(value):
            yield Finding("warning", f"{place}.sinks[{number}]", warning)
    _survey, finding = _tried(f"{place}.sinks", lambda: transaction.survey(managed.sinks, value, 1))
    if finding.level == "error" and "sinks" not in wrong:
        yield finding


def _proof(place: str, managed: ManagedCredential, value: Credential) -> Iterator[Finding]:
    verifier = managed.verifier
    if verifier is None or is_bearer(value):
        yield Finding("ok", f"{place}.verify", "off: the value is published unproved")
        return
    yield Finding.begins(f"{place}.verify", "STS is asked whom the value belongs to")
    proof, finding = _tried(f"{place}.verify", lambda: verifier.verify(value, timeout_s=VERIFY_S, wait=_sleep))
    if proof is None:
        yield finding
    elif proof.outcome == "verified":
        yield Finding("ok", f"{place}.verify", f"STS knows it as {proof.arn}")
    else:
        yield Finding(
            "error",
            f"{place}.verify",
            f"STS could not judge it: {proof.detail}",
            "check cloud.sts_endpoint and the network",
        )


def _emergency(parts: wiring.Factory, managed: ManagedCredential, offline: bool) -> Iterator[Finding]:
    place = f"credentials.{managed.name}.emergency"
    authority = parts.authority(managed.name) if managed.settings.emergency else None
    if authority is None:
        if isinstance(managed.provider, Rotatable):
            yield Finding(
                "warning",
                place,
                "`keyturn rotate` cannot work for this credential",
                "name an authority there before you need it",
            )
        return
    local = [*_inspected(f"{place}.authority", authority)]
    if not isinstance(managed.settings.emergency and managed.settings.emergency.authority, str):
        yield from local  # another credential of this config says it itself
    if not offline and all(one.level != "error" for one in local):
        now = Clock().now()
        yield Finding.begins(f"{place}.authority", "is asked for its value, and STS whom that belongs to")
        identity, finding = _tried(
            f"{place}.authority",
            lambda: parts.cloud().sts.get_caller_identity(_fetched(authority, now), now=now),
        )
        yield finding if identity is None else Finding("ok", f"{place}.authority", f"STS knows it as {identity.arn}")


def _inspected(where: str, provider: Provider) -> Iterator[Finding]:
    """Yield what a provider finds on this machine; what it found before it failed counts."""
    found: list[Finding] = []
    _done, failure = _tried(
        where, lambda: _in_time(provider, lambda: found.extend(_placed(where, provider.inspect())), INSPECT_S)
    )
    yield from tuple(found)
    if failure.level == "error":
        yield failure


def _fetched(provider: Provider, now: datetime) -> Credential:
    return _in_time(provider, partial(provider.fetch, now), FETCH_S)


def _in_time(provider: Provider, work: Callable[[], T], limit_s: float) -> T:
    """Run a provider's code on a thread of its own, which is left behind when the time is up.

    Raises:
        KeyturnError: what `work` raised; or it raised something else, or did not come back.
    """
    answer: Future[T] = Future()

    def run() -> None:
        try:
            answer.set_result(work())
        except BaseException as error:
            answer.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    wait([answer], limit_s)
    if not answer.done():
        raise SourceUnavailableError(
            f"provider {provider.type_name} did not come back within {limit_s:g} s",
            "look at the network and the name service, or report it to the author of its package",
        )
    error = answer.exception()
    if error is None or isinstance(error, KeyturnError):
        return answer.result()
    # Only its type: its text may hold anything, a secret too.
    failed = f"provider {provider.type_name} failed with {type(error).__name__}"
    raise BadAnswerError(failed, "report it to the author of its package")


def _placed(where: str, found: Iterator[Finding]) -> Iterator[Finding]:
    try:
        for one in found:
            placed = one.place if one.place.startswith("credentials.") else where
            yield replace(one, place=placed)
    except KeyturnError as error:
        yield Finding.of("error", where, error.as_problem())


def _tried(where: str, work: Callable[[], T]) -> tuple[T | None, Finding]:
    try:
        return work(), Finding("ok", where, "")
    except KeyturnError as error:
        return None, Finding.of("error", where, error.as_problem())


def _sleep(seconds: float) -> bool:
    time.sleep(seconds)
    return False


def _named(sink: Sink, found: Finding) -> str:
    return found.text if sink.path in found.text else f"{sink.target} {found.text}"

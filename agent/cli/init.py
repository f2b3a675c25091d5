"""`keyturn init`: the first config, from options or, on a terminal, from a few questions. It never replaces a file.

Decisions. Whatever was asked is judged as the daemon would judge the file, before anything is written. Questions go to standard
error, so that `--output -` can be piped. Ctrl-C leaves nothing, since writing is the last thing that happens.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from dataclasses import replace
from pathlib import Path

from agent.app import wiring
from agent.cli.first_answers import (
    CREDENTIAL_NAME,
    DEFAULT_PROVIDER,
    REGION_VARIABLES,
    Answers,
    Questions,
    asked,
    complete,
    known_values,
)
from agent.config.load import parse
from agent.core.errors import ConfigError, KeyturnError, NotPermittedError, UsageError
from agent.first_config.document import config_text, steps
from agent.first_config.host import account, this_host, unit_property
from agent.first_config.readers import READERS, sink_path
from agent.first_config.wish import SERVICE_CONFIG, Account, Host, Wish, quoted
from agent.notifiers.systemd import full_name
from agent.system import files
from agent.system.accounts import SystemAccounts, find_account, own_account
from agent.system.oserrors import explain
from agent.system.signals import end_like_an_interrupt
from agent.system.systemd_unit import agent_user
from agent.system.terminal import paint
from agent.system.trusted_path import open_trusted, step_problem
from agent.systemd_setup.unit import with_credentials

STDOUT = "-"


def init(options: argparse.Namespace) -> int:
    """Write the config and say what is still to be done; return the exit code."""
    end_like_an_interrupt()
    path = os.path.abspath(options.config if options.output in (None, STDOUT) else options.output)
    _printable(
        path,
        *(getattr(options, name) or "" for name in ("secret", "unit", "user", "credential", "region")),
        *options.set,
    )
    is_piped, given = options.output == STDOUT, _given(options)
    if not is_piped:
        _refuse(path, given)
    wish, host, text = _settled(given, path, asks=not options.yes and _is_terminal())
    if is_piped:
        print(text, end="")
        return 0
    _write(wish, host, text)
    print(f"{paint(path, 'good')} is written: {wish.credential}, from {wish.provider} to {sink_path(wish)}.")
    print("Still to be done, in this order (it also stands in the file):")
    for number, step in enumerate(steps(wish, host), 1):
        print(f"\n{number}. {step.text}")
        for command in step.commands:
            print(f"       {command}")
    return 0


def _is_terminal() -> bool:
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr))


def _printable(*texts: str) -> None:
    for text in texts:
        if not text.isprintable():
            raise UsageError("an option holds a line break or another character that cannot be printed", "leave it out")


def _given(options: argparse.Namespace) -> Answers:
    provider, values = known_values(options.provider or "", options.secret, options.set)
    return Answers(
        provider=provider,
        values=values,
        reader=options.reader or "",
        credential=options.credential or "",
        unit=options.unit,
        user=options.user,
        region=options.region or "",
    )


def _settled(given: Answers, path: str, *, asks: bool) -> tuple[Wish, Host, str]:
    """Return what is wanted, the machine, and a config that loads.

    Raises:
        UsageError: the answers give no config, and nobody can be asked again.
    """
    region = next(filter(None, map(os.environ.get, REGION_VARIABLES)), "cn-hangzhou")
    answers, questions = given, Questions()
    while True:
        before = questions.asked
        if asks:
            answers = asked(given, answers, questions, region)
        answers = complete(answers, region)
        try:
            wish = _wish(answers, path)
            host = this_host(wish.unit)
            text = config_text(wish, host)
            _judge(text)
            return wish, host, text
        except UsageError as error:
            if questions.asked == before:  # everything was given by options
                raise
            questions.say(f"keyturn: {error}")


def _wish(answers: Answers, path: str) -> Wish:
    if answers.credential and not CREDENTIAL_NAME.fullmatch(answers.credential):
        raise UsageError(
            f"--credential {answers.credential}: want letters, digits, dots, dashes and underscores", "such as uploader"
        )
    name, unit = answers.name(), full_name(answers.unit) if answers.unit else ""
    wish = Wish(
        provider=answers.provider,
        values=answers.values,
        reader=answers.reader,
        credential=name,
        unit=unit,
        region=answers.region,
        path=path,
    )
    return wish._replace(user=_user(answers.user, wish))


def _user(named: str | None, wish: Wish) -> Account | None:
    """Return whom the application runs as: as named, as its unit says, or called like the credential.

    None where that is root or keyturn's own user, who need no group; and for a config of one's own, where nobody was named.
    """
    own = own_account()
    if named is None and wish.unit and unit_property(wish.unit, "LoadState") == "loaded":
        named = unit_property(wish.unit, "User") or "root"
    elif named is None and wish.is_the_services:
        named = wish.credential
    if named in (None, "", "root", agent_user()):
        return None
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}", named):
        raise UsageError(f"--user {named}: this is no name of a user", "name the user that the application runs as")
    if own.uid != 0 and not wish.is_the_services:
        raise UsageError(
            f"user {own.name} cannot give files to {named}",
            "leave --user out, or write the service's config as root: sudo keyturn init",
        )
    return account(named)


def _judge(text: str) -> None:
    """Refuse a config that would not load, or that names a `${VAR}` which is not set here.

    Raises:
        UsageError: with every problem.
    """
    environ = with_credentials(os.environ)
    try:
        parse(text.encode(), "init", wiring.registry(), environ=environ, users=SystemAccounts())
    except ConfigError as error:
        raise UsageError("; ".join(one.removeprefix("init: ") for one in error.problems)) from None


def _refuse(path: str, given: Answers) -> None:
    """Refuse a path at which nothing can be written, before anybody is asked anything.

    Raises:
        KeyturnError: there is something, or this user may not write there, or others could exchange what is written.
    """
    if os.path.lexists(path):
        raise _is_taken(path)
    directory = os.path.dirname(path)
    if not os.path.isdir(directory) and path != SERVICE_CONFIG:
        raise KeyturnError(f"{directory}: there is no such directory", f"`{quoted('mkdir', '-p', directory)}`")
    nearest = directory if os.path.isdir(directory) else os.path.dirname(directory)
    if not os.access(nearest, os.W_OK | os.X_OK, effective_ids=True):
        own = f"{replace(given, provider=given.provider or DEFAULT_PROVIDER).command()} --output ~/keyturn.toml"
        raise NotPermittedError(
            f"{directory}: user {own_account().name} may not write there",
            f"run it as root, or write a config of your own: `{own}`",
        )
    os.close(open_trusted(nearest, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))  # judges what is above it
    exposed = step_problem(nearest, os.stat(nearest), path)
    if exposed is not None:
        raise KeyturnError.of(exposed)


def _is_taken(path: str) -> KeyturnError:
    check = quoted("keyturn", "check") if path == SERVICE_CONFIG else quoted("keyturn", "--config", path, "check")
    return KeyturnError(
        f"{path}: there is one already, and it stays as it is",
        f"`{check}` says what it lacks; `keyturn init --output -` shows another one",
    )


def _write(wish: Wish, host: Host, text: str) -> None:
    """Write the config, whole, where nothing was.

    Raises:
        KeyturnError: it cannot be written; nothing is left.
    """
    directory = Path(wish.directory)
    service = find_account(host.agent) if wish.is_the_services and host.has_service and os.geteuid() == 0 else None
    try:
        if wish.is_the_services:
            directory.mkdir(mode=0o755, exist_ok=True)  # the package's tmpfiles.d makes it root:keyturn 0750
        mode, owner = (0o640, (0, service.gid)) if service is not None else (_mode(wish), None)
        files.write_new(wish.path, text.encode(), mode, owner)
    except FileExistsError:
        raise _is_taken(wish.path) from None
    except OSError as error:
        raise KeyturnError.of(explain(error, wish.path).at(wish.path)) from error


def _mode(wish: Wish) -> int:
    """Return who may read it: an application whose command names the config has to. No secret is in it."""
    is_read_by_application = READERS[wish.reader].in_home and READERS[wish.reader].asks and wish.user is not None
    return 0o644 if is_read_by_application and not wish.is_the_services else 0o600

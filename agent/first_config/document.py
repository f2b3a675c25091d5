"""The first config as text, with what is still due as comments. No I/O.

Decisions. A step stands in the config and not only on the terminal, because it is done later, by somebody else, from cloud-init.
Each command of a step is a line of its own behind `COMMAND`, and can be pasted. What cannot be valid yet, because a user is
missing or an authority has no key, is in the config behind a mark, and the step ends with the command that takes the mark away.
"""

from __future__ import annotations

from collections.abc import Iterator

from agent.core.toml_text import toml
from agent.first_config.readers import (
    BEARER,
    BEARER_LINES,
    KEY,
    LISTEN,
    READERS,
    SESSION,
    home,
    sink_directory,
    sink_path,
)
from agent.first_config.sources import SOURCES, secret_file
from agent.first_config.wish import Host, Step, Wish, quoted

COMMAND = "#      "
"""What stands before a command in the config."""
USER_MARK, EMERGENCY_MARK = "#user# ", "#emergency# "


def fitting(provider: str) -> tuple[str, ...]:
    """Return the names of the readers that can take what a provider gives, the best first."""
    kind = BEARER if provider == BEARER else SESSION if SOURCES[provider].session else KEY
    # The secret of a RAM user's key cannot be asked for again, so a file has to hold it (docs/ram_user.md).
    names = [name for name, one in READERS.items() if kind in one.takes and not (one.asks and provider == "ram_user")]
    # The SDK for Python refuses a session in credentials.ini (docs/sinks.md), so there it comes last.
    return tuple(sorted(names, key=lambda name: kind == SESSION and name == "credentials_ini"))


def config_text(wish: Wish, host: Host) -> str:
    """Return the whole config."""
    return "\n".join([*_head(wish, host), *_agent(wish), *_cloud(wish), *_credential(wish, host), ""])


def steps(wish: Wish, host: Host) -> list[Step]:
    """Return what is still to be done, in order."""
    return [
        *_user_steps(wish),
        *_directory_steps(wish, host),
        *SOURCES[wish.provider].steps(wish, host),
        *_unit_steps(wish, host),
        *_application_steps(wish),
        *_emergency_steps(wish, host),
        *_last_steps(wish, host),
    ]


# -- the tables ---------------------------------------------------------------------------------------


def _head(wish: Wish, host: Host) -> Iterator[str]:
    yield "# The first config of keyturn here, by `keyturn init`. It is yours now: every key is in docs/config.md,"
    yield "# keyturn.example.toml has all of them, and `keyturn check` judges what you write."
    yield "#"
    yield "# Still to be done, in this order; the commands can be pasted as they stand:"
    yield "#"
    for number, step in enumerate(steps(wish, host), 1):
        yield f"# {number}. {step.text}"
        yield from (f"{COMMAND}{command}" for command in step.commands)
    yield ""


def _agent(wish: Wish) -> Iterator[str]:
    if not wish.is_the_services:  # else systemd, or the default, says where
        yield "[agent]"
        yield f"state_directory = {toml(wish.beside('state'))}"
        yield f"runtime_directory = {toml(wish.beside('run'))}"
        yield ""
        yield "[agent.audit]"
        yield f"path = {toml(wish.beside('audit.jsonl'))}"
        yield ""
    if wish.reader == "credentials_uri":
        yield "[agent.endpoint]"
        yield f"listen = {toml(LISTEN)}"
        yield ""


def _cloud(wish: Wish) -> Iterator[str]:
    yield "[cloud]"
    yield f"region_id = {toml(wish.region)}"
    yield ""


def _credential(wish: Wish, host: Host) -> Iterator[str]:
    yield f"[{wish.place}.provider]"
    yield f"type = {toml(wish.provider)}"
    yield from SOURCES[wish.provider].lines(wish, host)
    yield ""
    yield f"[[{wish.place}.sinks]]"
    if wish.reader == "credentials_ini" and SOURCES[wish.provider].session:
        yield "# The SDK for Python refuses a session in this file (docs/sinks.md): env_file and aliyun_cli hold one for it."
    yield from BEARER_LINES if wish.provider == BEARER else READERS[wish.reader].lines
    yield f"path = {toml(sink_path(wish))}"
    if wish.user is not None:
        yield f"{_mark(wish)}group = {toml(wish.user.group)}"
        yield f'{_mark(wish)}mode = "0640"'
    yield ""
    yield from _serve(wish, host)
    yield from _notify(wish)
    yield from _emergency(wish)


def _mark(wish: Wish) -> str:
    return "" if wish.user is None or wish.user.exists else USER_MARK


def _serve(wish: Wish, host: Host) -> Iterator[str]:
    if READERS[wish.reader].asks:
        who = wish.user.name if wish.user is not None else "root" if wish.is_the_services else host.agent
        yield f"{_mark(wish)}[{wish.place}.serve]"
        yield f"{_mark(wish)}users = [{toml(who)}]    # who may ask for the value"
        yield ""


def _notify(wish: Wish) -> Iterator[str]:
    if READERS[wish.reader].asks:
        return
    if not wish.unit:
        yield "# Nobody is told of a new key yet. A unit would be, by"
        yield f"# [[{wish.place}.notify]]"
        yield '# type = "systemd"'
        yield f'# unit = "{wish.credential}.service"'
        yield '# action = "restart"'
        yield ""
        return
    yield f"[[{wish.place}.notify]]"
    yield 'type = "systemd"'
    yield f"unit = {toml(wish.unit)}"
    yield 'action = "restart"    # what reads once, reads again only then: docs/consumers.md'
    yield ""


def _emergency(wish: Wish) -> Iterator[str]:
    if wish.provider == "kms_secret":
        yield f"{EMERGENCY_MARK}[{wish.place}.emergency.authority]"
        yield f'{EMERGENCY_MARK}type = "access_key"'
        for part in ("id", "secret"):
            yield f"{EMERGENCY_MARK}access_key_{part}_from_file_path = {toml(wish.beside(f'operator_access_key_{part}'))}"
        yield ""


# -- what is due ---------------------------------------------------------------------------------------


def _unmark(mark: str, wish: Wish) -> str:
    return f"sed -i 's/^{mark}//' {quoted(wish.path)}"


def _user_steps(wish: Wish) -> Iterator[Step]:
    user = wish.user
    if user is not None and not user.exists:
        add = ("useradd", "--system", "--user-group", "--home-dir", home(wish), "--shell", "/usr/sbin/nologin")
        yield Step(
            "The user that the application runs as, who is not on this machine, and the lines below that wait for it:",
            (quoted(*add, user.name), _unmark(USER_MARK, wish)),
        )


def _directory_steps(wish: Wish, host: Host) -> Iterator[Step]:
    directory = sink_directory(wish)
    if not host.exists(directory):
        let_in = ("-g", wish.user.group, "-m", "0750") if wish.user is not None else ("-m", "0700")
        yield Step(
            "The directory of the file that the application reads:",
            (quoted("install", "-d", "-o", host.agent, *let_in, directory),),
        )
    own = {"/var/log/keyturn": "0750", "/var/lib/keyturn": "0700"}
    missing = {path: mode for path, mode in own.items() if wish.is_the_services and not host.exists(path)}
    if missing:
        made = (quoted("install", "-d", "-o", host.agent, "-m", mode, path) for path, mode in missing.items())
        yield Step("keyturn's own directories:", tuple(made))


def _unit_steps(wish: Wish, host: Host) -> Iterator[Step]:
    if wish.unit and not READERS[wish.reader].asks and not host.has_unit:
        yield Step(
            f"The unit {wish.unit}, which is told of each new key, and is not on this machine; look with:",
            (quoted("systemctl", "cat", wish.unit),),
        )


def _application_steps(wish: Wish) -> Iterator[Step]:
    """Yield how the application finds the file: what no check can see."""
    variable = READERS[wish.reader].variable.format(path=sink_path(wish), home=home(wish))
    if not variable or (wish.user is not None and wish.user.home == home(wish) and READERS[wish.reader].in_home):
        return
    if not wish.unit:
        yield Step(f"Tell the application where it is: {variable} in its unit, or the same in its environment.")
        return
    directory = f"/etc/systemd/system/{wish.unit}.d"
    lines = ("[Unit]", "After=keyturn.service", "[Service]", variable.replace("%", "%%"))
    yield Step(
        "Have the application find it, from its next start on:",
        (
            quoted("mkdir", "-p", directory),
            quoted("printf", "%s\\n", *lines) + " > " + quoted(f"{directory}/50-credentials.conf"),
            "systemctl daemon-reload",
        ),
    )


def _emergency_steps(wish: Wish, host: Host) -> Iterator[Step]:
    if wish.provider == "kms_secret":
        paths = [wish.beside(f"operator_access_key_{part}") for part in ("id", "secret")]
        yield Step(
            "Before a key leaks: the AccessKey of a RAM user who may then rotate it (docs/emergency.md; policy: `keyturn policy`). "
            "It can wait:",
            (*(secret_file(path, host) for path in paths if not host.exists(path)), _unmark(EMERGENCY_MARK, wish)),
        )


def _last_steps(wish: Wish, host: Host) -> Iterator[Step]:
    call = host.keyturn if wish.is_the_services else f"{host.keyturn} --config {quoted(wish.path)}"
    if wish.is_the_services and host.has_service:
        yield Step(
            "What the service may do here, from this config, as root:",
            (f"{host.keyturn} systemd-setup --install",),
        )
        yield Step("Look, then start:", (f"{call} check", "systemctl enable --now keyturn"))
    else:
        yield Step("Look, then run it (as a service: docs/install.md):", (f"{call} check", f"{call} run"))

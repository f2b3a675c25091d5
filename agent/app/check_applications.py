"""What `check` says of the applications that ask: whether each user whom `serve` names can reach the daemon and their files.

Judged by owner, group and mode alone. What whoever checks cannot see is left out.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from agent.config.outline import RUNTIME_DIRECTORY
from agent.core.errors import SinkError
from agent.core.finding import Finding
from agent.core.settings import CredentialSettings, FileSinkSettings, Settings
from agent.serving.server import SOCKET_NAME
from agent.sinks.formats.aliyun_cli import AliyunCliSettings
from agent.sinks.transaction.target import wanted_attributes
from agent.system.accounts import Account, SystemAccounts, find_account, group_name
from agent.system.passage import READ, allowed, allows, closed_to, opening
from agent.system.systemd_unit import agent_user
from agent.systemd_setup.needs import DEFAULT_CONFIG


def findings(settings: Settings, config: str, runtime: Path) -> Iterator[Finding]:
    """Yield a warning for each obstacle between a user whom `serve` names and the value.

    Args:
        settings: the config.
        config: its absolute path.
        runtime: the runtime directory.
    """
    serving = {name: one for name, one in settings.credentials.items() if one.serve is not None}
    at_socket = dict.fromkeys(user for one in serving.values() if _runs_command(one) for user in _users(one))
    for user in at_socket:
        yield from _at_socket(user, config, str(runtime))
    for name, credential in serving.items():
        users = _users(credential)
        for number, sink in enumerate(credential.sinks):
            if isinstance(sink, FileSinkSettings) and _leads_to_daemon(sink):
                yield from _at_sink(f"credentials.{name}", number, sink, credential, users)


def _runs_command(credential: CredentialSettings) -> bool:
    """Return whether applications may run `keyturn credential`, as far as the sinks tell."""
    kinds = {
        sink.needs_endpoint
        for sink in credential.sinks
        if isinstance(sink, FileSinkSettings) and _leads_to_daemon(sink)
    }
    return kinds != {True}


def _leads_to_daemon(sink: FileSinkSettings) -> bool:
    return sink.needs_endpoint or (isinstance(sink, AliyunCliSettings) and sink.profile_mode is not None)


def _users(credential: CredentialSettings) -> list[Account]:
    names = credential.serve.users if credential.serve is not None else ()
    return [found for one in names if (found := _account(one)) is not None]


def _account(name: str) -> Account | None:
    uid = SystemAccounts().uid_of(name)
    return find_account(name) or (Account(name, uid, uid, (), "/") if uid is not None else None)


def _at_socket(user: Account, config: str, runtime: str) -> Iterator[Finding]:
    closed = closed_to(f"{runtime}/{SOCKET_NAME}", user)
    if closed:
        text = f"user {user.name}, whom `serve` names, cannot reach keyturn's socket: {' and '.join(closed)} is closed to them"
        yield Finding("warning", "agent.runtime_directory", text, f"`{opening(closed)}`")
    own = runtime != RUNTIME_DIRECTORY
    if not own and config == DEFAULT_CONFIG:
        return
    closed, commands = closed_to(config, user), []
    if closed:
        commands.append(opening(closed))
    if own and not allowed(config, READ, user):
        commands.append(shlex.join(("chmod", "a+r", config)))
    if commands:
        text = f"user {user.name}, whom `serve` names, cannot read this config, by which `keyturn credential` finds the daemon"
        yield Finding("warning", config, text, f"`{' && '.join(commands)}`")


def _at_sink(
    place: str, number: int, sink: FileSinkSettings, credential: CredentialSettings, users: Sequence[Account]
) -> Iterator[Finding]:
    where, path = f"{place}.sinks[{number}]", str(sink.path)
    for user in users:
        closed = closed_to(path, user)
        if closed:
            text = (
                f"user {user.name}, whom `serve` names, cannot reach {path}: {' and '.join(closed)} is closed to them"
            )
            yield Finding("warning", where, text, f"`{opening(closed)}`")
    try:
        wanted = wanted_attributes(sink)
    except SinkError:  # the sink's own finding says it
        return
    service = find_account(agent_user())
    uid = service.uid if sink.owner is None and service is not None else wanted.uid
    gid = service.gid if sink.owner is None and sink.group is None and service is not None else wanted.gid
    blind = [user for user in users if not allows((uid, gid), wanted.mode, READ, user)]
    if blind:
        names = " and ".join(user.name for user in blind)
        text = (
            f"user {names}, whom `serve` names, cannot read {path}: it is {group_name(gid)}'s, mode {wanted.mode:04o}"
        )
        yield Finding("warning", where, text, _readable(sink, wanted.mode, gid, blind))
    owner = find_account(str(uid))
    if sink.owner is not None and owner is not None and not _may_ask(owner, credential):
        text = f"{path} belongs to {owner.name}, whom `serve` does not name: they get the file, and no value"
        yield Finding("warning", where, text, f'add "{owner.name}" to `users` of [{place}.serve], or change `owner`')


def _readable(sink: FileSinkSettings, mode: int, gid: int, blind: Sequence[Account]) -> str:
    """Return what makes a file readable to users: the file's group, and whoever of them is not in it yet."""
    named = sink.group is not None and mode & 0o040
    number = gid if named else blind[0].gid
    group = group_name(number).removeprefix("gid ")
    lines = [] if named else [f'set `group = "{group}"` and `mode = "0640"` there']
    outside = blind if named else [user for user in blind[1:] if blind[0].gid not in user.groups]
    lines += [
        f"`{shlex.join(('usermod', '-aG', group, user.name))}`, then restart what runs as them" for user in outside
    ]
    return "; ".join(lines)


def _may_ask(owner: Account, credential: CredentialSettings) -> bool:
    serve, accounts = credential.serve, SystemAccounts()
    if serve is None or owner.uid == 0 or owner.name == agent_user():
        return True
    groups = {accounts.gid_of(name) for name in serve.groups}
    return owner.uid in {accounts.uid_of(name) for name in serve.users} or bool(groups & set(owner.groups))

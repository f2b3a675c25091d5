"""The findings of `check` about a sink: whether it could be written, and what is unwise about its place. Writes nothing."""

from __future__ import annotations

import os
import shlex
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

from agent.core.credential import Credential
from agent.core.errors import SinkError
from agent.core.finding import Finding
from agent.sinks.interface import FileSink, Sink
from agent.sinks.transaction.plan import examine
from agent.sinks.transaction.target import Attributes, pin, read_present, wanted_attributes
from agent.system.accounts import find_account, group_name, user_name
from agent.system.capabilities import may_give
from agent.system.systemd_unit import agent_user
from agent.system.trusted_directory import Directory, split


def inspect(sink: Sink, credential: Credential | None = None) -> Iterator[Finding]:
    """Yield the findings about one sink, errors first; a single "ok" when there is nothing to say.

    Args:
        sink: the target of a publish.
        credential: the value that would be written, where it is known; its kind may not suit the format.
    """
    found = [*_place(sink), *(_command(sink) if sink.process_command else ()), *_advice(sink, credential)]
    yield from found or [Finding("ok", sink.target, "can be written")]


def _advice(sink: Sink, credential: Credential | None) -> Iterator[Finding]:
    if sink.settings.write == "in_place":
        text = (
            "a reader can see a file that is written in place half written, and whoever holds it open already reads "
            "the new value, even if owner and mode shut them out since"
        )
        yield Finding("warning", sink.target, text, "leave `write` out unless the file itself is a bind mount")
    try:
        warnings = [*sink.inspect(), *(sink.warnings_for(credential) if credential else ())]
    except SinkError as error:
        yield Finding.of("error", sink.target, error.as_problem())
        return
    yield from (Finding("warning", sink.target, text) for text in warnings)


def _place(sink: Sink) -> Iterator[Finding]:
    try:
        wanted = wanted_attributes(sink.settings)
        with pin(sink.settings) as directory:
            examine(sink, directory)
            yield from _rights(sink, directory, wanted)
    except SinkError as error:
        yield Finding.of("error", sink.target, error.as_problem())


def _rights(sink: Sink, directory: Directory, wanted: Attributes) -> Iterator[Finding]:
    # In place, too, a staged file stands beside the target, so the directory has to be writable either way.
    if not os.access(".", os.W_OK | os.X_OK, dir_fd=directory.fd, effective_ids=True):
        yield Finding(
            "error",
            sink.target,
            f"user {user_name()} may not create files in {directory.path}",
            _opened(directory),
        )
    if not may_give(wanted.uid, wanted.gid):
        yield Finding(
            "error",
            sink.target,
            f"user {user_name()} may not give a file to {_heir(wanted)}",
            "let the service do it (`keyturn systemd-setup --install`: CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER), "
            "or drop `owner` and `group`",
        )
    if sink.readers_write:
        yield from _kept_from_readers(sink, directory, wanted)
    elif directory.shared_with:
        yield Finding(
            "warning",
            sink.target,
            f"a group may write {directory.path}, so its members can replace this file",
            f"chmod g-w {directory.path}, unless they are meant to",
        )


def _kept_from_readers(sink: Sink, directory: Directory, wanted: Attributes) -> Iterator[Finding]:
    """Yield where the application could write the file: then its SDK writes the key into it, in clear."""
    ours = {0, os.geteuid(), account.uid if (account := find_account(agent_user())) else 0}
    if wanted.uid not in ours:
        yield Finding(
            "error",
            sink.target,
            f"the SDKs write the key into a file that its application owns, and {user_name(wanted.uid)} will own this one",
            f'leave `owner` out; `group = "{group_name(wanted.gid)}"` and `mode = "0640"` let the application read it',
        )
    group, path = group_name(wanted.gid), shlex.quote(directory.path)
    is_open = directory.uid not in ours or directory.shared_with
    commands = [f"chown {agent_user()}:{group} {path} && chmod 0750 {path}"] if is_open else []
    present = read_present(directory, split(sink.path)[1]).content
    if isinstance(sink, FileSink) and present and sink.only_written_back(present):
        # Only once the directory is closed: the new file then has the owner, group and mode of the config, and stays so.
        commands.append(shlex.join((*sink.context.command, "refresh", sink.context.credential)))
        text = "an SDK wrote a key into this file, in clear, by the rights of its application"
        yield Finding("warning", sink.target, text, f"`{' && '.join(commands)}`")
    if is_open:
        yield Finding(
            "error",
            sink.target,
            f"the application could write {directory.path}, and its SDK would put the key into this file, in clear",
            f"`{' && '.join(commands)}`",
        )


def _command(sink: Sink) -> Iterator[Finding]:
    """Yield what keeps other users, or some SDKs, from running the command that the file names."""
    if shlex.join(sink.process_command) != " ".join(sink.process_command):
        yield Finding(
            "warning",
            sink.target,
            "its readers run a command with blanks or quotes in a path, which the SDKs for Node (2.4.5) and Go (1.4.10) cut apart",
            "give the config a path without them, or see that these SDKs are newer",
        )
    for program in dict.fromkeys((*sink.process_command[:1], os.path.realpath(sys.executable))):
        closed = _closed_to_others(program)
        if closed:
            yield Finding(
                "warning",
                sink.target,
                f"its readers run {shlex.join(sink.process_command)}, and {closed} is closed to users besides its owner",
                "install keyturn where everyone may run it, such as by the Debian package (docs/install.md)",
            )
            return


def _closed_to_others(program: str) -> str:
    """Return the first part of a path that others may not pass, or run at its end; "" where they may."""
    real = os.path.realpath(program)
    for part in [*reversed([str(one) for one in Path(real).parents]), real]:
        try:
            if not os.stat(part).st_mode & stat.S_IXOTH:
                return part
        except OSError:
            return part
    return ""


def _opened(directory: Directory) -> str:
    """Return what to type so that this user may write there: in a sandbox the file system is read-only (statvfs(3))."""
    if os.statvfs(f"/proc/self/fd/{directory.fd}").f_flag & os.ST_RDONLY:
        return "run `keyturn systemd-setup --install` as root, then `systemctl restart keyturn` (ReadWritePaths=)"
    path = shlex.quote(directory.path)
    return f"run `chown {user_name()} {path}`, or write as its owner: `owner` in the config, then `keyturn systemd-setup --install`"


def _heir(wanted: Attributes) -> str:
    return user_name(wanted.uid) if wanted.uid != os.geteuid() else f"group {wanted.gid}"

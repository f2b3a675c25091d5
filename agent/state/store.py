"""What keyturn remembers over a restart: one small file per credential, never a secret.

The record of a credential is also the journal of its publish. The order of a publish is: stage and flush
every sink; write this record with the new generation, what is owed to whom and where the staged files
lie, and flush it (the point of no return); switch the sinks; drop the journal with the next write. After
a crash the journal says what to finish, and `before` what to go back to should the staged files be gone.

A file per credential, in two slots; one that cannot be read is set aside, not fatal: docs/adr/0005.
"""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import msgspec

from agent.core.errors import CredentialFileError, KeyturnError, NotPermittedError, StateError
from agent.core.problem import Problem
from agent.state.credential_state import CredentialState
from agent.state.records import CredentialRecord
from agent.system import files
from agent.system.accounts import user_name
from agent.system.oserrors import explain
from agent.system.systemd_unit import make_directory, service_user
from agent.system.trusted_path import open_trusted, writers_problem
from agent.system.two_slot_file import SlotFile, read_slots

MAX_RECORD_BYTES = 4 * 1024 * 1024
"""A record may grow to this and is readable then; its file may be four times as large."""

_BY_THE_SERVICE = (
    "it is the service's, which alone has its credentials: `systemctl start keyturn`, then run this again "
    "(for one pass without a daemon: `systemctl start keyturn-once`)"
)


class ServicesStateError(StateError):
    """The state is the service's, and another user would work on it without the service's credentials."""


_DAMAGED = (msgspec.DecodeError, RecursionError, files.TooLargeError, files.NotRegularError)
"""What reading raises for something that this program cannot have written."""


class StateStore:
    """The state directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._credentials = directory / "credentials"
        self._written: dict[str, SlotFile] = {}

    def prepare(self) -> None:
        """Make the directories that are missing, closed to everybody else.

        Raises:
            NotPermittedError, StateError: they cannot be made, or somebody else can write them, and so name the
                file that a recovery would put in a sink's place; the text says how to mend that.
        """
        for path in (self.directory, self._credentials):
            try:
                _make_durably(path)
            except PermissionError as err:
                raise NotPermittedError(
                    f"{path}: user {user_name()} may not make the state directory, or look into it",
                    f"run keyturn as root or as the user of the service, or make it once: {make_directory(path, '0700')}",
                ) from err
            except OSError as err:
                raise StateError(
                    f"{path}: the state directory cannot be made: {err.strerror}",
                    f"make it once: {make_directory(path, '0700')}",
                ) from err
            _refuse_foreign(path)

    def load(self, name: str) -> tuple[CredentialState, str]:
        """Return what is remembered of a credential, and a sentence if its record had to be set aside.

        Raises:
            NotPermittedError: this user may not read the record.
            StateError: the disk does not give it out, or does not let it be set aside.
        """
        path = self._path(name)
        try:
            content = read_slots(path, MAX_RECORD_BYTES)
            if content is None and not os.path.lexists(path):
                return CredentialState(), ""
            return CredentialState.of(msgspec.json.decode(content or b"", type=CredentialRecord)), ""
        except _DAMAGED:
            return CredentialState(), _set_aside(path)
        except PermissionError as err:
            raise _unreadable(path) from err
        except OSError as err:
            why = explain(err, str(path))
            raise StateError(f"{path}: the state cannot be read: {why.text}", why.remedy) from err

    def peek(self, name: str) -> CredentialState:
        """Return what is remembered, and set nothing right: for a look without the lock.

        Raises:
            NotPermittedError: this user may not read the record.
        """
        try:
            content = read_slots(self._path(name), MAX_RECORD_BYTES)
            return (
                CredentialState.of(msgspec.json.decode(content, type=CredentialRecord))
                if content
                else CredentialState()
            )
        except PermissionError as err:
            raise _unreadable(self._path(name)) from err
        except (OSError, *_DAMAGED):
            return CredentialState()

    def save(self, name: str, state: CredentialState, *, flush: bool = True) -> None:
        """Write the record; with `flush` it survives a power cut before this returns.

        Raises:
            StateError: it could not be written; the record on disk is the one before.
        """
        record = msgspec.json.encode(state.record())
        if len(record) > MAX_RECORD_BYTES:
            raise StateError(
                f"{self._path(name)}: the state cannot be written: it would be larger than {MAX_RECORD_BYTES} bytes",
                "give this credential fewer sinks and dependents",
            )
        try:
            # Closed after each write: a thousand credentials must not need a thousand descriptors.
            with closing(self._slots(name)) as slots:
                slots.write(record, flush=flush)
        except OSError as err:
            why = explain(err, str(self._path(name)))
            raise StateError(f"{self._path(name)}: the state cannot be written: {why.text}", why.remedy) from err

    def _slots(self, name: str) -> SlotFile:
        if name not in self._written:
            self._written[name] = SlotFile(self._path(name))
        return self._written[name]

    def _path(self, name: str) -> Path:
        return self._credentials / f"{name}.state"


def _make_durably(path: Path) -> None:
    """Make a directory that is missing, so that a power cut cannot take it away with what will be flushed in it."""
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        if path.is_dir():
            return
        raise
    files.sync_names(path.parent)


def _unreadable(path: Path) -> NotPermittedError:
    return NotPermittedError(f"{path}: this user may not read it", "run as root or as the user of the service")


def directory_problem(directory: Path) -> Problem | None:
    """Return why a state directory that is there would be refused; None where it would not, or is not there."""
    for path in (directory, directory / "credentials"):
        if path.is_dir():
            try:
                _refuse_foreign(path)
            except ServicesStateError:
                return None  # the service may use it, whoever looks
            except KeyturnError as error:
                return error.as_problem()
    return None


def _refuse_foreign(directory: Path) -> None:
    try:
        fd = open_trusted(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except CredentialFileError as error:
        raise StateError.of(error.as_problem()) from error
    except PermissionError:  # closed to this user, and so somebody else's: it is not used, only named
        found = directory.stat()
    else:
        try:
            found = os.fstat(fd)
        finally:
            os.close(fd)
    problem = writers_problem(found, str(directory), heir=user_name())
    if problem is None:
        return
    remedy = problem.remedy
    if found.st_uid not in (0, os.geteuid()):
        owner = user_name(found.st_uid)
        if owner == service_user():
            raise ServicesStateError(problem.text, _BY_THE_SERVICE)
        remedy = f"run keyturn as {owner}, whose state this is (sudo -u {owner} keyturn ...), or: {remedy}"
    raise StateError(problem.text, remedy)


def _set_aside(path: Path) -> str:
    """Move a damaged record out of the way of the next one, and say so; it is kept to be looked at."""
    aside = path.with_suffix(".unreadable")
    try:
        path.replace(aside)
    except OSError as err:
        raise StateError(
            f"{path}: the record is damaged and cannot be set aside as {aside.name}: {err.strerror}",
            "move it away, or mend the state directory",
        ) from err
    return f"{path}: the record is damaged and was set aside as {aside.name}"

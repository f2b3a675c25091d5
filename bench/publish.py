"""What a publish costs beside a bare loop that makes the same writes and flushes.

    python bench/publish.py [--sinks 1,2,10,50] [--rounds 100] [--directory DIR] [--shared]

bare      for each file: write a temporary one, flush it, rename it, flush its directory; and a record of the state,
          written over and flushed
publish   survey, stage, flush the state with the journal and the debts, switch all, flush the directories
bare too  the same as `bare`, and three audit records appended and flushed once
audited   the same as `publish` through agent/refresh/pipeline.py, with its records flushed to the audit log before it is reported

Each is compared with the bare loop of the same writes and flushes before it. The four alternate within one run, so that a
slow disk slows all. Needs a directory on a real disk.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from agent.audit.log import AuditLog
from agent.cloud.verify import Verification
from agent.core.credential import Credential
from agent.core.events import Cause, Trigger
from agent.core.policy import Change
from agent.core.provider import Provider, ProviderContext
from agent.core.secret import Secret
from agent.core.settings import CredentialSettings, FilePath, ProviderSettings
from agent.logs.setup import set_up
from agent.refresh.managed_credential import ManagedCredential
from agent.refresh.obtained import Obtained
from agent.refresh.pipeline import publish as publish_whole
from agent.refresh.recorder import Recorder
from agent.sinks.formats.credentials_ini import CredentialsIni, CredentialsIniSettings
from agent.sinks.formats.env_file import EnvFile, EnvFileSettings
from agent.sinks.interface import FileSink
from agent.sinks.transaction import transaction
from agent.state.credential_state import CredentialState
from agent.state.notification_ledger import NotificationLedger
from agent.state.publish_journal import PublishJournal
from agent.state.records import Debt, Published
from agent.state.store import StateStore

RECORD_BYTES = 8 * 1024
"""A slot of the state (agent/system/two_slot_file.py)."""


class Bench(Provider):
    """A provider that is never asked."""

    type_name, Settings = "bench", ProviderSettings

    def _fetch(self, timeout_s: float) -> Credential:
        return value(0)


def value(number: int) -> Credential:
    """A value of the usual sizes, another one for each number."""
    return Credential(
        access_key_id=f"LTAI5t{number:018}", access_key_secret=Secret(f"{number:030}"), version_id=f"{number:036}"
    )


def make_sinks(root: Path, count: int, shared: bool) -> tuple[FileSink, ...]:
    """Alternately a credentials.ini and an env file, in one directory or in one each."""
    sinks: list[FileSink] = []
    for number in range(count):
        directory = root / ("shared" if shared else f"app{number}")
        directory.mkdir(mode=0o750, exist_ok=True, parents=True)
        if number % 2:
            sinks.append(EnvFile(EnvFileSettings(type="env_file", path=FilePath(directory / f"{number}.env"))))
        else:
            path = FilePath(directory / f"{number}.ini")
            sinks.append(CredentialsIni(CredentialsIniSettings(type="credentials_ini", path=path)))
    return tuple(sinks)


class Bare:
    """The least that anybody does who wants it whole and durable."""

    def __init__(self, root: Path, targets: Sequence[Path]) -> None:
        self._targets = targets
        self._state = os.open(root / "bare.state", os.O_RDWR | os.O_CREAT, 0o600)
        self._audit = os.open(root / "bare.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(self._state, b"x" * RECORD_BYTES)
        os.fsync(self._state)

    def publish(self, contents: Sequence[bytes]) -> None:
        """Each file by itself, and the state."""
        for target, content in zip(self._targets, contents, strict=True):
            temp = target.with_name(target.name + ".tmp")
            fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            os.write(fd, content)
            os.fsync(fd)
            os.close(fd)
            temp.rename(target)
            parent = os.open(target.parent, os.O_RDONLY)
            os.fsync(parent)
            os.close(parent)
        os.pwrite(self._state, b"y" * RECORD_BYTES, 0)
        os.fdatasync(self._state)

    def audited(self, contents: Sequence[bytes]) -> None:
        """Files, state and audit."""
        self.publish(contents)
        for _record in ("credential_fetched", "verified", "published"):
            os.write(self._audit, b"z" * 399 + b"\n")
        os.fdatasync(self._audit)


def publish(sinks: Sequence[FileSink], number: int, states: StateStore) -> None:
    """The transaction as agent/refresh/pipeline.py makes it, without the audit."""
    now = datetime.now(UTC)
    with transaction.survey(sinks, value(number), number).stage() as staged:
        following = Published(
            number, value(number).access_key_id, version_id=value(number).version_id, published_at=now
        )
        debt = Debt(("systemd", "uploader.service", "reload-or-restart"), number, now, Trigger.POLL)
        journal = PublishJournal(Published(number - 1))
        journal.begin(following, staged.journal, number)
        states.save("bench", CredentialState(journal, NotificationLedger([debt])))
        staged.commit()


class Audited:
    """The whole page of agent/refresh/pipeline.py from the proved value on."""

    def __init__(self, root: Path, sinks: tuple[FileSink, ...]) -> None:
        states = StateStore(root / "audited")
        states.prepare()
        audit = AuditLog(root / "audit.jsonl", root / "audit-head", lambda: datetime.now(UTC))
        self._recorder = Recorder(audit, states)
        settings = ProviderSettings(type="bench")
        self._managed = ManagedCredential(
            "bench", CredentialSettings(provider=settings), Bench(settings, ProviderContext("bench")), None, sinks, ()
        )

    def publish(self, number: int) -> None:
        """One publish of a new value."""
        proof = Verification("verified", 1, "acs:ram::1234567890123456:user/uploader", "1234567890123456")
        obtained = Obtained(value(number), Change.NEW, proof, time.monotonic(), 60, 40, 60.0)
        cause, now = Cause(Trigger.POLL), datetime.now(UTC)
        publish_whole(self._managed, obtained, cause, self._recorder, now, time.monotonic)


def timed(act: Callable[[], None]) -> float:
    """Seconds that `act` takes."""
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


WAYS = ("bare", "publish", "bare too", "audited")


def run(root: Path, sinks_wanted: int, options: argparse.Namespace) -> dict[str, float]:
    """Alternate the four for the given rounds; return the median seconds of each."""
    sinks = make_sinks(root / "ours", sinks_wanted, options.shared)
    states = StateStore(root / "state")
    states.prepare()
    audited = Audited(root, make_sinks(root / "whole", sinks_wanted, options.shared))
    bare = Bare(root, [Path(sink.path).with_suffix(".bare") for sink in sinks])
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    for number in range(1, options.rounds + 1):
        contents = [sink.render(None, value(number), number) for sink in sinks]
        acts: dict[str, Callable[[], None]] = {
            "bare": partial(bare.publish, contents),
            "publish": partial(publish, sinks, number, states),
            "bare too": partial(bare.audited, contents),
            "audited": partial(audited.publish, number),
        }
        for way in WAYS:
            seconds[way].append(timed(acts[way]))
    return {way: statistics.median(times) for way, times in seconds.items()}


def main() -> None:
    """Print the medians and their ratios to the bare loops."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sinks", default="1,2,10,50", help="how many, one table row each")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--shared", action="store_true", help="all sinks in one directory")
    parser.add_argument("--directory", default=None, help="where to write; by default the temporary directory")
    options = parser.parse_args()
    set_up("error", "plain", {})
    print(f"{options.rounds} rounds, {'all in one directory' if options.shared else 'a directory each'}; medians in ms")
    print("sinks     bare  publish  ratio bare too  audited  ratio")
    for count in map(int, options.sinks.split(",")):
        with tempfile.TemporaryDirectory(dir=options.directory) as root:
            took = {way: seconds * 1000 for way, seconds in run(Path(root), count, options).items()}
        print(
            f"{count:5} {took['bare']:8.2f} {took['publish']:8.2f}  {took['publish'] / took['bare']:5.2f} "
            f"{took['bare too']:8.2f} {took['audited']:8.2f}  {took['audited'] / took['bare too']:5.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()

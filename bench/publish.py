"""What a publish costs beside a bare loop that makes the same writes and flushes.

    python -m bench.publish [--sinks 1,2,10] [--rounds 300] [--directory DIR] [--shared] [--flush-ms 1]

bare      for each file: write a temporary one, flush it, rename it, flush its directory; and a record of the state,
          written over and flushed
publish   survey, stage, flush the state with the journal and the debts, switch all, flush the directories: one for all
          where the file system makes names durable in their order
bare too  the same as `bare`, and three audit records appended and flushed once
audited   the same as `publish` through agent/refresh/pipeline.py, with its records flushed to the audit log before it is reported

Each is compared with the bare loop before it, which anybody would write who wants files whole and durable. The ways take
turns within one run, so that a slow disk slows all; medians. What keyturn computes is the same on each disk, so the ratio
falls as a flush takes longer: `--flush-ms` shows that. Needs a directory on a real disk, for on a tmpfs a flush costs nothing.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from agent.audit.log import AuditLog
from agent.audit.origin import Origin
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
from bench.row import Row, add_option, show

AIM, AIM_AUDITED = 1.3, 1.5
BORN = datetime(2026, 1, 1, tzinfo=UTC)
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
        access_key_id=f"LTAI5t{number:018}",
        access_key_secret=Secret(f"{number:030}"),
        version_id=f"{number:036}",
        created_at=BORN,
        request_id=f"{number:036}",
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
        self.flush()

    def flush(self) -> None:
        """The state alone."""
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
        origin = Origin("iZbp1example0000000000Z", "0.0.0", f"sha256:{0:016}")
        audit = AuditLog(root / "audit.jsonl", root / "audit-head", lambda: datetime.now(UTC), origin)
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


class SlowerDisk:
    """Has each flush take longer, ours and those of the bare loop alike."""

    def __init__(self, milliseconds: float) -> None:
        self._wait_s = milliseconds / 1000
        if self._wait_s:
            os.fsync, os.fdatasync = self._slower(os.fsync), self._slower(os.fdatasync)

    def _slower(self, flush: Callable[[int], None]) -> Callable[[int], None]:
        def slower(fd: int) -> None:
            flush(fd)
            time.sleep(self._wait_s)

        return slower


@dataclass
class Took:
    """What one way took: seconds by the wall clock, each time, and seconds of the processor, in all."""

    wall_s: list[float] = field(default_factory=list)
    cpu_s: float = 0.0

    def time(self, act: Callable[[], None]) -> None:
        """Do it once more."""
        wall, cpu = time.perf_counter(), time.process_time()
        act()
        self.wall_s.append(time.perf_counter() - wall)
        self.cpu_s += time.process_time() - cpu

    @property
    def ms(self) -> float:
        """The median."""
        return statistics.median(self.wall_s) * 1000

    @property
    def cpu_ms(self) -> float:
        """The mean; the clock of the processor is too coarse for a median."""
        return self.cpu_s * 1000 / len(self.wall_s)


def run(root: Path, sinks_wanted: int, rounds: int, shared: bool) -> dict[str, Took]:
    """Alternate the ways for the given rounds, each as often before as behind any other."""
    sinks = make_sinks(root / "ours", sinks_wanted, shared)
    states = StateStore(root / "state")
    states.prepare()
    audited = Audited(root, make_sinks(root / "whole", sinks_wanted, shared))
    bare = Bare(root, [Path(sink.path).with_suffix(".bare") for sink in sinks])
    took = {way: Took() for way in ("bare", "publish", "bare too", "audited", "flush")}
    for number in range(1, rounds + 1):
        contents = [sink.render(None, value(number), number) for sink in sinks]
        acts: dict[str, Callable[[], None]] = {
            "bare": partial(bare.publish, contents),
            "publish": partial(publish, sinks, number, states),
            "bare too": partial(bare.audited, contents),
            "audited": partial(audited.publish, number),
            "flush": bare.flush,
        }
        ways = list(acts)
        for way in [*ways[number % len(ways) :], *ways[: number % len(ways)]]:
            took[way].time(acts[way])
    return took


def rows(counts: Sequence[int], options: argparse.Namespace) -> Iterator[Row]:
    """Measure for each number of sinks."""
    where = ", in one directory" if options.shared else ""
    for count in counts:
        with tempfile.TemporaryDirectory(dir=options.directory) as root:
            took = run(Path(root), count, options.rounds, options.shared)
        what = f"a publish of {count} sink{'s' * (count > 1)}{where}"
        yield Row(what, took["publish"].ms, "ms", took["bare"].ms, AIM)
        yield Row("the same with its audit records", took["audited"].ms, "ms", took["bare too"].ms, AIM_AUDITED)
        yield Row("the same, processor time", took["audited"].cpu_ms, "ms", took["bare too"].cpu_ms)
    yield Row("a flush of 8 KiB on this disk", took["flush"].ms, "ms")


def main() -> None:
    """Print three rows for each number of sinks, and what a flush takes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sinks", default="1,2,10", help="how many, three table rows each")
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--shared", action="store_true", help="all sinks in one directory")
    parser.add_argument("--directory", default=None, help="where to write; by default the temporary directory")
    parser.add_argument("--flush-ms", type=float, default=0.0, help="let each flush take so much longer")
    parser.add_argument("--quick", action="store_true", help="few rounds: whether the program still runs")
    add_option(parser)
    options = parser.parse_args()
    set_up("error", "plain", {})
    SlowerDisk(options.flush_ms)
    counts = [1, 2] if options.quick else list(map(int, options.sinks.split(",")))
    options.rounds = 5 if options.quick else options.rounds
    show(rows(counts, options), options.json)


if __name__ == "__main__":
    main()

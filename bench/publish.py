"""What a publish costs beside a bare loop that writes the same bytes as durably.

    python bench/publish.py [--sinks 2] [--rounds 200] [--directory DIR] [--shared]

bare      for each file: write a temporary one, flush it, rename it, flush its directory
publish   survey, stage, flush the state with the journal and the debts, switch all, flush the directories
audited   the same through agent/rotate.py, with its records flushed to the audit log before it is reported

The three alternate within one run, so that a slow disk slows all. Needs a directory on a real disk.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from agent.audit import AuditLog
from agent.books import Books
from agent.core.credential import Credential
from agent.core.events import Trigger
from agent.core.policy import Change
from agent.core.provider import Provider, ProviderContext
from agent.core.secret import Secret
from agent.core.settings import CredentialSettings, FilePath, ProviderSettings
from agent.logs import set_up
from agent.managed import Managed
from agent.rotate import publish as rotate_publish
from agent.sinks import transaction
from agent.sinks.credentials_ini import CredentialsIni, CredentialsIniSettings
from agent.sinks.env_file import EnvFile, EnvFileSettings
from agent.sinks.interface import FileSink
from agent.stages import Cause, Obtained
from agent.state import CredentialState, Debt, Published, StateStore
from agent.verify import Verification


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


def bare(targets: Sequence[Path], contents: Sequence[bytes]) -> None:
    """The least that anybody does who wants the files whole and durable."""
    for target, content in zip(targets, contents, strict=True):
        temp = target.with_name(target.name + ".tmp")
        fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.write(fd, content)
        os.fsync(fd)
        os.close(fd)
        temp.rename(target)
        parent = os.open(target.parent, os.O_RDONLY)
        os.fsync(parent)
        os.close(parent)


def publish(sinks: Sequence[FileSink], number: int, states: StateStore) -> None:
    """The transaction as rotate.py makes it, without the audit."""
    now = datetime.now(UTC)
    with transaction.survey(sinks, value(number), number).stage() as staged:
        state = CredentialState(
            published=Published(
                number, value(number).access_key_id, version_id=value(number).version_id, published_at=now
            ),
            debts=[Debt(("systemd", "uploader.service", "reload-or-restart"), number, now, Trigger.POLL)],
            journal=staged.journal,
            before=Published(number - 1),
        )
        states.save("bench", state)
        staged.commit()


class Audited:
    """The whole page of agent/rotate.py from the proved value on."""

    def __init__(self, root: Path, sinks: tuple[FileSink, ...]) -> None:
        states = StateStore(root / "audited")
        states.prepare()
        self._books = Books(AuditLog(root / "audit.jsonl", root / "audit-head", lambda: datetime.now(UTC)), states)
        settings = ProviderSettings(type="bench")
        self._managed = Managed(
            "bench", CredentialSettings(provider=settings), Bench(settings, ProviderContext("bench")), None, sinks, ()
        )

    def publish(self, number: int) -> None:
        """One publish of a new value."""
        proof = Verification("verified", 1, "acs:ram::1234567890123456:user/uploader", "1234567890123456")
        obtained = Obtained(value(number), Change.NEW, proof, time.monotonic(), 60, 40, 60.0)
        cause, now = Cause(Trigger.POLL), datetime.now(UTC)
        rotate_publish(self._managed, obtained, cause, self._books, now, time.monotonic)


def timed(act: Callable[[], None]) -> float:
    """Seconds that `act` takes."""
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def run(root: Path, options: argparse.Namespace) -> tuple[list[float], list[float], list[float]]:
    """Alternate the three for the given rounds."""
    sinks = make_sinks(root / "ours", options.sinks, options.shared)
    states = StateStore(root / "state")
    states.prepare()
    audited = Audited(root, make_sinks(root / "whole", options.sinks, options.shared))
    targets = [Path(sink.path).with_suffix(".bare") for sink in sinks]
    seconds: tuple[list[float], list[float], list[float]] = ([], [], [])
    for number in range(1, options.rounds + 1):
        contents = [sink.render(None, value(number), number) for sink in sinks]
        seconds[0].append(timed(lambda contents=contents: bare(targets, contents)))  # type: ignore[misc]
        seconds[1].append(timed(lambda number=number: publish(sinks, number, states)))  # type: ignore[misc]
        seconds[2].append(timed(lambda number=number: audited.publish(number)))  # type: ignore[misc]
    return seconds


def main() -> None:
    """Print the medians and their ratios to the bare loop."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sinks", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--shared", action="store_true", help="all sinks in one directory")
    parser.add_argument("--directory", default=None, help="where to write; by default the temporary directory")
    options = parser.parse_args()
    set_up("error", "plain", {})
    with tempfile.TemporaryDirectory(dir=options.directory) as root:
        bare_s, publish_s, audited_s = (statistics.median(times) for times in run(Path(root), options))
    print(
        f"{options.sinks} sinks, {'one directory' if options.shared else 'a directory each'}, {options.rounds} rounds"
    )
    print(f"bare     {bare_s * 1000:7.3f} ms")
    print(f"publish  {publish_s * 1000:7.3f} ms  ratio {publish_s / bare_s:.2f}")
    print(f"audited  {audited_s * 1000:7.3f} ms  ratio {audited_s / bare_s:.2f}")


if __name__ == "__main__":
    main()

"""What a publish costs beside a bare loop that writes the same bytes as durably.

    python bench/publish.py [--sinks 2] [--rounds 200] [--directory DIR] [--journal slots|replace] [--shared]

A: for each file, write a temporary one, flush it, rename it and flush the directory.
B: survey, stage, write and flush a state record of about 1 kB with the journal in it, commit.
The two alternate within one run, so that a slow disk slows both. Needs a directory on a real disk.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from agent.core.credential import Credential
from agent.core.secret import Secret
from agent.core.settings import FilePath
from agent.sinks import transaction
from agent.sinks.credentials_ini import CredentialsIni, CredentialsIniSettings
from agent.sinks.env_file import EnvFile, EnvFileSettings
from agent.sinks.interface import FileSink
from agent.system.files import write_atomic
from agent.system.slots import SlotFile

RECORD = {"published": {"access_key_id": "LTAI5tBench", "version_id": "v" * 36}, "padding": "x" * 600}


def value(number: int) -> Credential:
    """A value of the usual sizes, another one for each number."""
    return Credential(access_key_id=f"LTAI5t{number:018}", access_key_secret=Secret(f"{number:030}"))


def make_sinks(root: Path, count: int, shared: bool) -> list[FileSink]:
    """Alternately a credentials.ini and an env file, in one directory or in one each."""
    sinks: list[FileSink] = []
    for number in range(count):
        directory = root / ("shared" if shared else f"app{number}")
        directory.mkdir(mode=0o750, exist_ok=True)
        if number % 2:
            sinks.append(EnvFile(EnvFileSettings(type="env_file", path=FilePath(directory / f"{number}.env"))))
        else:
            path = FilePath(directory / f"{number}.ini")
            sinks.append(CredentialsIni(CredentialsIniSettings(type="credentials_ini", path=path)))
    return sinks


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


def publish(sinks: Sequence[FileSink], number: int, save: Callable[[bytes], None]) -> None:
    """The whole of our side, with the journal."""
    with transaction.survey(sinks, value(number), number).stage() as staged:
        save(json.dumps({**RECORD, "journal": staged.journal}).encode())
        staged.commit()


def timed(act: Callable[[], None]) -> float:
    """Seconds that `act` takes."""
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def run(root: Path, options: argparse.Namespace) -> tuple[list[float], list[float]]:
    """Alternate A and B for the given rounds."""
    sinks = make_sinks(root, options.sinks, options.shared)
    slots, record = SlotFile(root / "state.slots"), root / "state.json"
    save: Callable[[bytes], None] = (
        slots.write if options.journal == "slots" else lambda text: write_atomic(record, text)
    )
    bare_targets = [Path(sink.path).with_suffix(".bare") for sink in sinks]
    theirs, ours = [], []
    for number in range(1, options.rounds + 1):
        contents = [sink.render(None, value(number), number) for sink in sinks]
        theirs.append(timed(lambda contents=contents: bare(bare_targets, contents)))  # type: ignore[misc]
        ours.append(timed(lambda number=number: publish(sinks, number, save)))  # type: ignore[misc]
    slots.close()
    return theirs, ours


def main() -> None:
    """Print both medians and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sinks", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--journal", choices=["slots", "replace"], default="replace")
    parser.add_argument("--shared", action="store_true", help="all sinks in one directory")
    parser.add_argument("--directory", default=None, help="where to write; by default the temporary directory")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.directory) as root:
        theirs, ours = (statistics.median(times) for times in run(Path(root), options))
    print(f"bare loop  {theirs:.6f} s")
    print(f"publish    {ours:.6f} s  ({options.sinks} sinks, journal: {options.journal})")
    print(f"ratio      {ours / theirs:.2f}")


if __name__ == "__main__":
    main()

"""A credential whose only file names a command: nothing on disk changes with its value, and all else goes on as ever."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from agent.core.settings import FilePath
from agent.refresh.managed_credential import ManagedCredential
from agent.sinks.formats.aliyun_cli import AliyunCli, AliyunCliSettings
from agent.sinks.interface import SinkContext
from tests.support.bench import Bench
from tests.support.fakes import FakeDependent, Source, key
from tests.support.processes import in_child
from tests.support.publishes import MakeBench


def with_command(bench: Bench, web: FakeDependent) -> ManagedCredential:
    """A credential with such a file and a dependent."""
    managed = bench.managed(notify=[web])
    settings = AliyunCliSettings(type="aliyun_cli", path=FilePath(bench.sink()), profile_mode="External")
    managed.sinks = (AliyunCli(settings, SinkContext("a")),)
    return managed


def served(bench: Bench, web: FakeDependent) -> ManagedCredential:
    """The same, published once."""
    managed = with_command(bench, web)
    bench.begin(managed).publish(managed, 1)
    bench.move(3)
    return managed


def written_back(bench: Bench, value: Any) -> None:
    """What the SDKs do to the file once they were answered."""
    config = json.loads(bench.sink().read_bytes())
    config["profiles"][0] |= {"access_key_id": value.access_key_id, "access_key_secret": "clear", "sts_token": None}
    bench.sink().write_text(json.dumps(config, indent=4))


def test_the_generation_grows_and_the_file_is_not_touched(bench: Bench) -> None:
    """A rotation is published, recorded and told, though no byte on disk is another one."""
    web = FakeDependent("web")
    managed = served(bench, web)
    before = bench.sink().stat()
    assert bench.publish(managed, 2).outcome.generation == 2  # type: ignore[union-attr]
    bench.move(3)
    assert (bench.sink().stat().st_ino, bench.sink().stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert [record["access_key_id"] for record in bench.records("published")] == [key(n).access_key_id for n in (1, 2)]
    assert (
        web.generations == [1, 2] and managed.value is not None and managed.value.access_key_id == key(2).access_key_id
    )


def test_a_key_that_an_sdk_wrote_is_removed_once_for_each_value(bench: Bench) -> None:
    """Recorded as drift, told to nobody, and no war: let be from then on, until there is another value."""
    web = FakeDependent("web")
    managed = served(bench, web)
    for value in (1, 2):
        if value == 2:
            bench.publish(managed, 2)
            assert b"clear" not in bench.sink().read_bytes()
        written_back(bench, key(value))
        assert bench.refresh().outcome.result == "repaired"  # type: ignore[union-attr]
        assert b"clear" not in bench.sink().read_bytes()
        for _turn in range(2):
            written_back(bench, key(value))
            assert bench.refresh().outcome.result == "unchanged"  # type: ignore[union-attr]
            assert b"clear" in bench.sink().read_bytes()
            assert managed.in_sync(managed.sinks[0].target) is False
        bench.move(3)
        assert len(bench.records("drift_repaired")) == value and web.generations == [*range(1, value + 1)]


def test_a_changed_command_is_put_right_each_time(bench: Bench) -> None:
    """Whoever changed it decides what the application signs with; no SDK does that."""
    served(bench, FakeDependent("web"))
    for _turn in range(2):
        bench.sink().write_bytes(bench.sink().read_bytes().replace(b"/usr/bin/keyturn", b"/tmp/keyturn"))
        assert bench.refresh().outcome.result == "repaired"  # type: ignore[union-attr]
        assert b"/usr/bin/keyturn" in bench.sink().read_bytes()


def test_what_is_owed_stays_owed_over_the_end_of_a_written_key(bench: Bench) -> None:
    """A dependent that could not be told of the value is still told."""
    web = FakeDependent("web")
    web.broken = True
    managed = served(bench, web)
    assert managed.state.debts
    written_back(bench, key(1))
    assert bench.refresh().outcome.result == "repaired"  # type: ignore[union-attr]
    web.broken = False
    bench.clock.move(60)
    bench.until(lambda: not managed.state.debts)
    assert web.generations[-1] == 1


@pytest.mark.parametrize("point", ["credential_fetched", "published", "close"])
def test_a_death_in_a_publish_that_writes_no_file_is_finished(make_bench: MakeBench, point: str) -> None:
    """Before, at and behind the record: after the restart the new value is published once, and told."""
    first = make_bench()
    served(first, FakeDependent("web"))
    first.close()

    def die() -> None:
        bench = make_bench()
        managed = with_command(bench, FakeDependent("web"))
        bench.begin(managed)
        if point == "close":
            managed.state.journal.close = lambda: os._exit(99)  # type: ignore[method-assign]
        else:
            bench.audit.before = lambda event: os._exit(99) if event == point else None  # type: ignore[method-assign]
        bench.publish(managed, 2)

    assert in_child(die) == 99
    web, bench = FakeDependent("web"), make_bench()
    managed = with_command(bench, web)
    bench.begin(managed)
    source = managed.provider
    assert isinstance(source, Source)
    source.value = key(2)
    assert bench.refresh().outcome is not None
    bench.move(3)
    published = bench.records("published", "publish_recovered")
    assert published[-1]["access_key_id"] == managed.state.published.access_key_id == key(2).access_key_id
    assert published[-1]["generation"] == managed.state.published.generation == web.generations[-1]
    assert [record["access_key_id"] for record in published].count(key(2).access_key_id) == 1

"""Publishes on a bench: one credential with two sinks, brought to a generation, broken off, or cut short by a death."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.refresh.managed_credential import ManagedCredential
from agent.sinks.transaction import transaction
from tests.support.bench import Bench
from tests.support.fakes import FakeDependent, Source, key
from tests.support.processes import in_child

MakeBench = Callable[..., Bench]


def two(bench: Bench, *, notify: bool = True) -> ManagedCredential:
    """A credential with two sinks, published as generation 1, everybody told."""
    managed = bench.managed(notify=[FakeDependent("web")] if notify else [])
    bench.begin(managed)
    if not managed.state.published.generation:
        bench.publish(managed, 1)
        managed.state.ledger.replace(())
        bench.states.save("a", managed.state)
    return managed


def held(bench: Bench) -> list[str]:
    return [str(json.loads(bench.sink("a", number).read_text())["AccessKeyId"]) for number in (0, 1)]


def left_over(bench: Bench) -> list[str]:
    """What lies beside the sinks and is none of them."""
    known = {"audit.jsonl", "audit.jsonl.aside", "state", "a.0", "a.1"}
    return sorted(path.name for path in bench.directory.iterdir() if path.name not in known)


def change_to(managed: ManagedCredential, number: int) -> None:
    source = managed.provider
    assert isinstance(source, Source)
    source.value = key(number)


def failing_rename(monkeypatch: pytest.MonkeyPatch, target: str, times: int) -> None:
    """The disk fails as often as told when something is renamed to `target`."""
    real, left = os.rename, [times]

    def rename(source: Any, destination: Any, **options: Any) -> None:
        if Path(destination).name == target and left[0]:
            left[0] -= 1
            raise OSError(errno.EIO, "Input/output error")
        real(source, destination, **options)

    monkeypatch.setattr(os, "rename", rename)


def died_at(make_bench: MakeBench, point: str) -> None:
    """Publish generation 1, then have a child process die in the publish of generation 2."""
    first = make_bench()
    two(first)
    first.close()
    assert in_child(lambda: _die(make_bench(), point)) == 99, f"no crash at {point}"


def _die(bench: Bench, point: str) -> None:
    managed = two(bench)
    change_to(managed, 2)
    save, switch = bench.states.save, transaction._switch

    def journal(name: str, state: Any, **options: Any) -> None:
        if point == "close" and not state.journal.is_open:
            os._exit(99)
        save(name, state, **options)
        if point == "journal" and state.journal.is_open:
            os._exit(99)

    def rename(file: Any) -> None:
        switch(file)
        if point == "first rename":
            os._exit(99)

    def record(event: str) -> None:
        if (point, event) in (("stage", "credential_fetched"), ("commit", "published")):
            os._exit(99)

    bench.states.save = journal  # type: ignore[method-assign]
    transaction._switch = rename
    bench.audit.before = record  # type: ignore[method-assign]
    bench.refresh()


def reloaded(bench: Bench, *credentials: ManagedCredential) -> list[ManagedCredential]:
    bench.engine.reload(credentials, 2.0)
    return [bench.slots[managed.name].managed for managed in credentials]

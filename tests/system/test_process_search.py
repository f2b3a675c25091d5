"""Which processes hold a key: what /proc shows of real ones."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.system import process_search
from agent.system.process_search import Holding, Search, Wanted
from agent.system.procfs import Stat
from tests.support.processes import PATIENCE_S, in_child

KEY = "LTAI5tOfThisTest"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")


@pytest.fixture
def run() -> Iterator[Callable[..., int]]:
    """Starts processes that end with the test; returns their pids."""
    running: list[subprocess.Popen[bytes]] = []

    def start(**options: object) -> int:
        running.append(subprocess.Popen(["/bin/sleep", "300"], **options))  # type: ignore[call-overload]
        return running[-1].pid

    yield start
    for process in running:
        process.kill()
        process.wait(PATIENCE_S)


def found(wanted: Wanted) -> dict[int, Holding]:
    search = Search()
    search.run(wanted)
    assert search.is_complete
    return {one.pid: one for one in search.found}


def test_an_open_file_counts_also_when_it_was_replaced_and_under_a_links_name(
    run: Callable[..., int], tmp_path: Path
) -> None:
    """Publishing replaces the file: whoever has the one before open has the key before."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    path, named = tmp_path / "real" / "key.ini", str(tmp_path / "link" / "key.ini")
    path.write_text("first")
    with path.open() as file:
        before = run(stdin=file)
    (tmp_path / "new").write_text("second")
    (tmp_path / "new").rename(path)
    with path.open() as file:
        now = run(stdin=file)
    with (tmp_path / "other").open("w") as file:
        other = run(stdin=file)
    seen = found(Wanted(paths=[named, str(tmp_path / "missing")]))
    assert {before, now} <= seen.keys() and other not in seen
    assert seen[before].opened == seen[now].opened == (named,)
    assert seen[now].executable.endswith(("sleep", "coreutils", "busybox"))


def test_the_environment_counts_and_nothing_of_it_is_kept(run: Callable[..., int]) -> None:
    """Only whether the key's id is in there."""
    pid = run(env={"AK": KEY, "SK": "canary-of-a-secret"})
    stranger = run(env={"AK": "LTAI5tAnother"})
    seen = found(Wanted(key_ids=[KEY]))
    assert seen[pid].key_ids == (KEY,) and stranger not in seen
    assert "canary" not in repr(seen)


def test_a_process_that_shows_up_and_nothing_more_is_counted(
    run: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As /proc with hidepid=1 has it: "none found" is never taken for "there is none"."""
    pid, real = run(env={"AK": KEY}), process_search.read_stat

    def read_stat(one: int) -> Stat:
        if one == pid:
            raise PermissionError(1, "Operation not permitted")
        return real(one)

    before, after = Search(), Search()
    monkeypatch.setattr(process_search, "pids", lambda: [pid])
    before.run(Wanted(key_ids=[KEY]))
    monkeypatch.setattr(process_search, "read_stat", read_stat)
    after.run(Wanted(key_ids=[KEY]))
    assert (len(before.found), before.unseen, len(after.found), after.unseen) == (1, 0, 0, 1)


def test_a_units_processes_are_found_by_their_control_group(
    run: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever they hold: the unit is to be told."""
    pid = run()
    monkeypatch.setattr(process_search, "read_unit", lambda one: "web.service" if one == pid else "")
    assert list(found(Wanted(units=["web.service"]))) == [pid]


def test_a_process_that_ends_meanwhile_is_no_error(run: Callable[..., int], monkeypatch: pytest.MonkeyPatch) -> None:
    """And a pid that another process has by then is not taken for it."""
    pid = run(env={"AK": KEY})
    monkeypatch.setattr(process_search, "pids", lambda: iter([pid, 2**22 + 1]))
    real, looks = process_search.read_stat, iter(range(10))

    def recycled(one: int) -> object:
        found = real(one)
        return type(found)(found.program, found.parent, found.group, found.started_boot_s + next(looks), found.dead)

    monkeypatch.setattr(process_search, "read_stat", recycled)
    assert found(Wanted(key_ids=[KEY])) == {}


@as_root
def test_another_user_learns_how_many_it_may_not_look_into(run: Callable[..., int]) -> None:
    """So that "none found" is not taken for "there is none"; of a unit it sees as much as everybody."""
    pid = run(env={"AK": KEY})

    def look() -> None:
        search = Search()
        search.run(Wanted(key_ids=[KEY]))
        assert pid not in [one.pid for one in search.found]
        assert search.unseen or search.is_hidden

    assert in_child(look, user=65534) == 0


def test_it_can_be_read_while_it_goes_on(monkeypatch: pytest.MonkeyPatch, run: Callable[..., int]) -> None:
    """One that is stuck in the kernel holds up what comes behind it, and nothing that was found before."""
    pid, stuck, go_on = run(env={"AK": KEY}), threading.Event(), threading.Event()
    monkeypatch.setattr(process_search, "pids", lambda: iter([pid, 1]))
    real = process_search.read_unit

    def read_unit(one: int) -> str:
        if one == 1:
            stuck.set()
            go_on.wait(PATIENCE_S)
        return real(one)

    monkeypatch.setattr(process_search, "read_unit", read_unit)
    search = Search()
    thread = threading.Thread(target=search.run, args=(Wanted(key_ids=[KEY]),))
    thread.start()
    assert stuck.wait(PATIENCE_S)
    assert ([one.pid for one in search.found], search.is_complete) == ([pid], False)
    go_on.set()
    thread.join(PATIENCE_S)
    assert search.is_complete

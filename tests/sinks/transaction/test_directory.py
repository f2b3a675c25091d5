"""A `directory` sink: what is published, what is drift, what is refused, what is pruned, what is left alone."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import stat
from pathlib import Path

import pytest

from agent.core.errors import SinkError
from agent.sinks.formats.directory import DirectorySink
from agent.sinks.transaction import transaction
from agent.sinks.transaction.plan import examine
from agent.sinks.transaction.target import pin
from tests.support.mounts import bind_mount, with_mounts
from tests.support.processes import in_child
from tests.support.sinks import (
    NAMES,
    beside,
    directory,
    env,
    env_member,
    expected,
    generations,
    ini,
    json_member,
    key,
    modes,
    publish,
    pulled,
    read,
    session,
    store_of,
)

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another user")


@pytest.fixture
def sink(tmp_path: Path) -> DirectorySink:
    """A directory sink in a directory of its own."""
    (tmp_path / "run").mkdir(mode=0o750)
    return directory(tmp_path / "run" / "credentials")


def differs(sink: DirectorySink, number: int) -> str:
    """What the survey says of the sink."""
    return transaction.survey([sink], key(number), number).sinks[0].differs


# -- what is published ------------------------------------------------------------------------------


def test_a_publish_makes_a_link_to_a_whole_directory(sink: DirectorySink) -> None:
    """The path is a link into the store, its files hold the value, and nothing else is left beside it."""
    publish([sink], key(1), 7)
    link = os.readlink(sink.path)
    assert link.startswith(".credentials.keyturn/000007-") and len(generations(sink)) == 1
    assert read(sink) == expected(sink, 1) and list(read(sink)) == NAMES
    assert transaction.survey([sink], key(1), 7).in_sync and beside(sink) == []


def test_an_unchanged_value_switches_nothing(sink: DirectorySink) -> None:
    """The link stays the one that it was."""
    publish([sink], key(1))
    before = os.lstat(sink.path)
    publish([sink], key(1))
    assert os.lstat(sink.path) == before


@pytest.mark.parametrize(
    ("mode", "directory_mode"), [(0o600, "0700"), (0o640, "0750"), (0o400, "0700"), (0o440, "0750")]
)
def test_a_directory_lets_in_who_may_read_its_files(
    sink: DirectorySink, tmp_path: Path, mode: int, directory_mode: str
) -> None:
    """The modes hold against any umask, and the store can be passed through and not be listed."""
    sink = directory(tmp_path / "run" / "credentials", mode=mode)
    before = os.umask(0o077 if mode & 0o040 else 0)
    try:
        publish([sink], key(1))
    finally:
        os.umask(before)
    assert modes(sink) == {("directory", directory_mode), ("file", f"{mode:04o}")}
    assert stat.S_IMODE(store_of(sink).stat().st_mode) == 0o711


@needs_root
def test_owner_and_group_are_those_of_the_config_and_the_store_is_ours(sink: DirectorySink, tmp_path: Path) -> None:
    """The reader owns what it reads, and not the place where the next generation is made."""
    sink = directory(tmp_path / "run" / "credentials", owner="12345", group="54321", mode=0o640)
    publish([sink], key(1))
    below = [*store_of(sink).rglob("*")]
    assert len(below) == 3 and {(each.stat().st_uid, each.stat().st_gid) for each in below} == {(12345, 54321)}
    assert store_of(sink).stat().st_uid == 0 and transaction.survey([sink], key(1), 1).in_sync


@needs_root
def test_the_owner_can_read_through_the_link(sink: DirectorySink, tmp_path: Path) -> None:
    """A reader that is neither root nor in keyturn's group comes through store and generation; a stranger does not."""
    for place in (tmp_path, *tmp_path.parents):
        if place.stat().st_uid == os.getuid() and not place.stat().st_mode & 0o001:
            place.chmod(0o711)
    (tmp_path / "run").chmod(0o755)
    sink = directory(tmp_path / "run" / "credentials", owner="12345", group="54321")
    publish([sink], key(1))

    def as_user(uid: int) -> int:
        def look() -> None:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            assert read(sink) == expected(sink, 1)

        return in_child(look)

    assert as_user(12345) == 0 and as_user(54322) != 0


def test_nothing_is_ever_wider_than_it_ends(sink: DirectorySink, tmp_path: Path) -> None:
    """At every step of a publish: no file with content has another mode than its own, nobody else may enter."""
    sink = directory(tmp_path / "run" / "credentials", mode=0o640)
    publish([sink], key(1))
    seen: set[tuple[str, str]] = set()

    def look(_: str) -> None:
        for path in store_of(sink).rglob("*"):
            found = path.lstat()
            mode = stat.S_IMODE(found.st_mode)
            assert not mode & 0o007 and not mode & ~(0o750 if path.is_dir() else 0o640)
            if path.is_file() and found.st_size:
                assert mode == 0o640
        seen.update(modes(sink))

    steps = 1
    while True:
        with pulled(steps, look) as plug:
            publish([sink], key(steps + 1))
        if plug.count < steps:
            break
        steps += 1
    assert steps > 15 and ("directory", "0700") in seen and ("directory", "0750") in seen


def test_sinks_of_other_types_are_switched_with_it(sink: DirectorySink, tmp_path: Path) -> None:
    """A directory is a member of the transaction like any file."""
    sinks = [ini(tmp_path / "run" / "a.ini"), sink, env(tmp_path / "run" / "b.env")]
    found = publish(sinks, key(1))
    assert [report.differs for report in found.sinks] == ["missing"] * 3
    assert read(sink) == expected(sink, 1)
    assert transaction.survey(sinks, key(1), 1).in_sync
    assert transaction.survey(sinks, key(2), 2).out_of_sync == tuple(each.target for each in sinks)


def test_files_of_one_name_are_chained(tmp_path: Path) -> None:
    """Two sets of variables in one file of the directory, as in any file."""
    members = env_member(), env_member(variables=("oss",))
    sink = directory(tmp_path / "credentials", *members)
    publish([sink], session(1))
    (content,) = read(sink).values()
    assert b"ALIBABA_CLOUD_ACCESS_KEY_ID=STS.Key000001" in content and b"OSS_SESSION_TOKEN=CAIS" in content
    assert transaction.survey([sink], session(1), 1).in_sync


def test_a_value_that_does_not_fit_one_file_stops_all(sink: DirectorySink, tmp_path: Path) -> None:
    """The error names the file through the link."""
    publish([sink], key(1))
    narrow = directory(
        tmp_path / "run" / "credentials", env_member(), env_member("x.env", variables={"T": "bearer_token"})
    )
    with pytest.raises(SinkError, match=r"credentials/x\.env: the value is of kind access_key"):
        publish([narrow], key(2))
    assert read(sink) == expected(sink, 1)


def test_an_edit_of_the_files_in_the_config_is_published(sink: DirectorySink, tmp_path: Path) -> None:
    """One file more, one less: a new generation holds exactly what the config names."""
    publish([sink], key(1))
    fewer = directory(tmp_path / "run" / "credentials", json_member())
    assert differs(fewer, 1) == "content"
    publish([fewer], key(1))
    assert list(read(fewer)) == ["credential.json"]
    assert differs(sink, 1) == "missing"


def test_a_survey_does_not_print_content(sink: DirectorySink) -> None:
    """A stray log line with a survey in it shows no secret."""
    assert "secretOf" not in repr(transaction.survey([sink], key(1), 1))


def test_the_journal_holds_no_secret(sink: DirectorySink) -> None:
    """Names and numbers only, as JSON."""
    with transaction.survey([sink], key(7), 1).stage() as staged:
        text = json.dumps(staged.journal)
    assert "secretOf" not in text and "LTAI" not in text and "aliyun.env" in text


def test_no_descriptor_is_left_open(sink: DirectorySink, tmp_path: Path) -> None:
    """Whatever way a publish ends: done, taken back, or failed after the directory was staged."""
    publish([sink], key(1))
    before = set(os.listdir("/proc/self/fd"))
    (tmp_path / "later").mkdir()
    late = env(tmp_path / "later" / "c.env")
    for number in range(2, 6):
        publish([sink], key(number))
        with transaction.survey([sink], key(99), 99).stage():
            pass
        (tmp_path / "later").mkdir(exist_ok=True)
        found = transaction.survey([sink, late], key(98), 98)
        (tmp_path / "later").rmdir()
        with pytest.raises(SinkError):
            found.stage()
        transaction.sweep([sink])
    assert set(os.listdir("/proc/self/fd")) == before and read(sink) == expected(sink, 5)


# -- drift ------------------------------------------------------------------------------------------


def _chmod(sink: DirectorySink) -> None:
    Path(sink.path, "aliyun.env").chmod(0o644)


def _chmod_directory(sink: DirectorySink) -> None:
    Path(sink.path).chmod(0o755)


def _chmod_store(sink: DirectorySink) -> None:
    store_of(sink).chmod(0o755)


def _edit(sink: DirectorySink) -> None:
    Path(sink.path, "aliyun.env").write_text("ALIBABA_CLOUD_ACCESS_KEY_ID=hijacked\n")


def _foreign_line(sink: DirectorySink) -> None:
    with Path(sink.path, "aliyun.env").open("a") as file:
        file.write("LD_PRELOAD=/tmp/x.so\n")


def _add(sink: DirectorySink) -> None:
    Path(sink.path, "more.env").write_text("A=1\n")


def _remove(sink: DirectorySink) -> None:
    Path(sink.path, "aliyun.env").unlink()


def _fifo(sink: DirectorySink) -> None:
    _remove(sink)
    os.mkfifo(Path(sink.path, "aliyun.env"))


def _link_in_it(sink: DirectorySink) -> None:
    _remove(sink)
    Path(sink.path, "aliyun.env").symlink_to("/etc/passwd")


def _huge(sink: DirectorySink) -> None:
    os.truncate(Path(sink.path, "aliyun.env"), 5 << 20)


def _unlink(sink: DirectorySink) -> None:
    Path(sink.path).unlink()


def _dangle(sink: DirectorySink) -> None:
    _unlink(sink)
    Path(sink.path).symlink_to(".credentials.keyturn/000001-0123456789abcdef")


def _empty_store(sink: DirectorySink) -> None:
    shutil.rmtree(store_of(sink))


def _reboot(sink: DirectorySink) -> None:
    _unlink(sink)
    _empty_store(sink)


DRIFTS = {
    "a file that others may read": (_chmod, "attributes"),
    "a directory that others may enter": (_chmod_directory, "attributes"),
    "a store that others may list": (_chmod_store, "attributes"),
    "another value": (_edit, "content"),
    "a foreign line": (_foreign_line, "content"),
    "a file more": (_add, "content"),
    "a file less": (_remove, "missing"),
    "a FIFO in place of a file": (_fifo, "content"),
    "a link in place of a file": (_link_in_it, "content"),
    "a file that is far too large": (_huge, "content"),
    "no link": (_unlink, "missing"),
    "a link to a generation that is not there": (_dangle, "missing"),
    "no store": (_empty_store, "missing"),
    "an empty tmpfs after a reboot": (_reboot, "missing"),
}


@pytest.mark.parametrize("drift", DRIFTS)
def test_drift_is_found_and_put_right(sink: DirectorySink, drift: str) -> None:
    """Whatever somebody did to it, the next pass publishes a whole new directory under the same generation."""
    make, name = DRIFTS[drift]
    publish([sink], key(1), 7)
    make(sink)
    assert differs(sink, 1) == name
    publish([sink], key(1), 7)
    assert read(sink) == expected(sink, 1) and transaction.survey([sink], key(1), 7).in_sync
    assert beside(sink) == [] and stat.S_IMODE(store_of(sink).stat().st_mode) == 0o711
    assert modes(sink) >= {("directory", "0700"), ("file", "0600")}


def test_a_link_to_an_older_generation_is_drift(sink: DirectorySink) -> None:
    """Somebody rolled back by hand: the value in use is published again."""
    publish([sink], key(1), 1)
    older = os.readlink(sink.path)
    publish([sink], key(2), 2)
    Path(sink.path).unlink()
    Path(sink.path).symlink_to(older)
    assert differs(sink, 2) == "content"
    publish([sink], key(2), 2)
    assert read(sink) == expected(sink, 2)


def test_what_stands_after_a_start_is_judged_without_the_secrets(sink: DirectorySink) -> None:
    """Files, owner, mode and the key's id; a missing file or a wider mode does not stand."""
    assert not transaction.stand([sink], key(1).access_key_id)
    publish([sink], key(1))
    assert transaction.stand([sink], key(1).access_key_id)
    assert not transaction.stand([sink], key(2).access_key_id)
    _chmod(sink)
    assert not transaction.stand([sink], key(1).access_key_id)
    _remove(sink)
    assert not transaction.stand([sink], key(1).access_key_id)
    _unlink(sink)
    Path(sink.path).symlink_to("/etc")
    assert not transaction.stand([sink], key(1).access_key_id)


# -- what is refused --------------------------------------------------------------------------------


def _plant(sink: DirectorySink, kind: str) -> None:
    path = Path(sink.path)
    if kind == "a directory":
        path.mkdir()
        (path / "precious").write_text("mine")
    elif kind == "a regular file":
        path.write_text("mine")
    elif kind == "a FIFO":
        os.mkfifo(path)
    else:
        (path.parent / "elsewhere").mkdir()
        path.symlink_to({"a symbolic link that leads elsewhere": "elsewhere"}[kind])


@pytest.mark.parametrize("kind", ["a directory", "a regular file", "a FIFO", "a symbolic link that leads elsewhere"])
def test_what_is_not_our_link_is_refused_and_left_alone(sink: DirectorySink, kind: str) -> None:
    """The first publish finds something of somebody's: it says what, and how to move it away; nothing is written."""
    _plant(sink, kind)
    before = sorted(os.listdir(Path(sink.path).parent))
    with pytest.raises(SinkError, match=f"credentials: it is {kind}, and keyturn's own link") as caught:
        publish([sink], key(1))
    assert caught.value.remedy.startswith("move it away (`mv ")
    with pin(sink.settings) as parent, pytest.raises(SinkError, match=kind):
        examine(sink, parent)
    assert sorted(os.listdir(Path(sink.path).parent)) == before
    if kind == "a directory":
        assert Path(sink.path, "precious").read_text() == "mine"


@pytest.mark.parametrize(
    "target",
    [
        "/etc",
        "../run/.credentials.keyturn/000001-0123456789abcdef",
        ".credentials.keyturn/../..",
        ".credentials.keyturn",
        ".credentials.keyturn/latest",
        ".other.keyturn/000001-0123456789abcdef",
        ".credentials.keyturn/000001-0123456789abcdef/..",
    ],
)
def test_a_link_that_only_looks_like_ours_is_refused(sink: DirectorySink, target: str) -> None:
    """Only the exact words that keyturn writes count, so that no link leads out of the store."""
    Path(sink.path).symlink_to(target)
    with pytest.raises(SinkError, match="leads elsewhere"):
        publish([sink], key(1))
    assert os.readlink(sink.path) == target


@pytest.mark.parametrize("mode", [0o777, 0o1777])
def test_a_parent_that_everyone_can_write_is_refused(sink: DirectorySink, mode: int) -> None:
    """Anybody could take the link's name."""
    Path(sink.path).parent.chmod(mode)
    with pytest.raises(SinkError, match="everyone can write this directory"):
        publish([sink], key(1))


@pytest.mark.parametrize("kind", ["a regular file", "a symbolic link"])
def test_a_store_that_is_no_directory_is_refused(sink: DirectorySink, tmp_path: Path, kind: str) -> None:
    """A link planted as the store would have keyturn write where somebody else likes."""
    trap = tmp_path / "trap"
    trap.mkdir()
    if kind == "a symbolic link":
        store_of(sink).symlink_to(trap)
    else:
        store_of(sink).write_text("mine")
    with pytest.raises(SinkError, match=rf"\.credentials\.keyturn: it is {kind}.*move it away"):
        publish([sink], key(1))
    assert list(trap.iterdir()) == [] and not os.path.lexists(sink.path)


@needs_root
def test_a_store_of_somebody_else_is_refused(sink: DirectorySink) -> None:
    """Its owner could swap a generation between two looks."""
    store_of(sink).mkdir()
    os.chown(store_of(sink), 12345, 12345)
    with pytest.raises(SinkError, match="it belongs to user uid 12345, who could change") as caught:
        publish([sink], key(1))
    assert "chown root" in caught.value.remedy and generations(sink) == []


def test_a_file_and_a_directory_cannot_share_a_path(sink: DirectorySink) -> None:
    """One would take the other away."""
    with pytest.raises(SinkError, match="share this path"):
        publish([env(Path(sink.path)), sink], key(1))


@pytest.mark.parametrize(
    "what", ["removed", "appeared", "repointed", "a file", "staged link", "staged file", "one file more", "store"]
)
def test_what_is_changed_during_the_publish_stops_it(sink: DirectorySink, tmp_path: Path, what: str) -> None:
    """Between survey and switch nothing may move; every sink is as it was, and it is tried again."""
    other = env(tmp_path / "run" / "b.env")
    if what != "appeared":
        publish([sink, other], key(1))
    path, elsewhere = Path(sink.path), ".credentials.keyturn/000001-0123456789abcdef"
    with transaction.survey([sink, other], key(2), 2).stage() as staged:
        entry = staged.journal[0]
        temp, generation = path.parent / entry["temp"], store_of(sink) / entry["generation"]
        if what in ("removed", "repointed", "a file"):
            path.unlink()
        if what in ("appeared", "repointed"):
            path.symlink_to(elsewhere)
        elif what == "a file":
            path.write_text("mine")
        elif what == "staged link":
            temp.unlink()
            temp.symlink_to(elsewhere)
        elif what == "staged file":
            (generation / "aliyun.env").write_text("A=1\n")
        elif what == "one file more":
            (generation / "evil.env").write_text("A=1\n")
        elif what == "store":
            store_of(sink).rename(tmp_path / "moved")
            store_of(sink).mkdir()
        with pytest.raises(transaction.TargetChangedError):
            staged.commit()
    assert what == "appeared" or Path(other.path).read_bytes() == other.render(None, key(1), 1)
    assert what != "a file" or path.read_text() == "mine"


@pytest.mark.parametrize("what", ["a directory", "a file"])
def test_what_takes_the_links_name_at_the_last_moment_is_never_entered(sink: DirectorySink, what: str) -> None:
    """Between the last look and the rename: a directory stops the switch, and recovery leaves it to its maker."""
    path = Path(sink.path)

    def plant(name: str) -> None:
        assert name == "rename"
        path.mkdir() if what == "a directory" else path.write_text("mine")

    with transaction.survey([sink], key(1), 1).stage() as staged:
        journal = staged.journal
        with pulled(1, plant):
            if what == "a file":
                staged.commit()
                assert read(sink) == expected(sink, 1)
                return
            with pytest.raises(transaction.CommitInterruptedError):
                staged.commit()
    assert not transaction.recover(journal).rolled_forward
    assert list(path.iterdir()) == [] and generations(sink) == [] and beside(sink) == []


# -- pruning ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [1, 2, 5])
def test_the_newest_generations_are_kept_and_older_ones_go(tmp_path: Path, keep: int) -> None:
    """The one in use and `keep` before it: bounded, whatever the number of publishes."""
    sink = directory(tmp_path / "credentials", keep=keep)
    for number in range(1, 9):
        publish([sink], key(number), number)
        wanted = [f"{each:06}" for each in range(max(1, number - keep), number + 1)]
        assert [name.partition("-")[0] for name in generations(sink)] == wanted


def test_the_generation_before_is_kept_even_where_the_count_began_anew(tmp_path: Path) -> None:
    """After the state was lost generation 1 follows 9: what a reader may be in goes by time, not by number."""
    sink = directory(tmp_path / "credentials", keep=2)
    for number in (8, 9, 1, 2, 3):
        publish([sink], key(number), number)
    assert [name.partition("-")[0] for name in generations(sink)] == ["000001", "000002", "000003"]


def test_the_generation_before_is_kept_whatever_the_clock_said(tmp_path: Path) -> None:
    """A wall clock that was stepped back does not make the newest look old."""
    sink = directory(tmp_path / "credentials", keep=1)
    for number in (1, 2, 3):
        publish([sink], key(number), number)
        os.utime(Path(sink.path), (1_900_000_000 - number * 1000, 1_900_000_000 - number * 1000))
    publish([sink], key(4), 4)
    assert [name.partition("-")[0] for name in generations(sink)] == ["000003", "000004"]


def test_nothing_that_is_not_ours_is_pruned(sink: DirectorySink, tmp_path: Path) -> None:
    """Other names in the store stay, and so does what a link in it leads to."""
    store, outside = store_of(sink), tmp_path / "000000-00000000000000aa"
    publish([sink], key(1))
    outside.mkdir()
    (outside / "precious").write_text("mine")
    (store / "notes").mkdir()
    (store / "000000-short").mkdir()
    (store / outside.name).symlink_to(outside)
    (store / "000000-00000000000000bb").write_text("a file")
    for name in ("000000-short", outside.name, "000000-00000000000000bb"):  # none counts as one that is kept
        os.utime(store / name, (4_000_000_000, 4_000_000_000), follow_symlinks=False)
    for number in range(2, 8):
        publish([sink], key(number), number)
        transaction.sweep([sink])
    kept = {"notes", "000000-short", outside.name, "000000-00000000000000bb"}
    assert kept < set(generations(sink)) and len(generations(sink)) == len(kept) + 3
    assert (outside / "precious").read_text() == "mine"


@needs_root
def test_strangers_directories_in_a_store_that_was_open_stay(sink: DirectorySink) -> None:
    """While somebody else could have put it there, the owner decides whether it is ours; in a closed store all are."""
    for number in range(1, 5):
        publish([sink], key(number), number)
    planted = store_of(sink) / "000000-00000000000000aa"
    planted.mkdir()
    os.utime(planted, (1, 1))
    os.chown(planted, 12345, 12345)
    store_of(sink).chmod(0o733)
    transaction.sweep([sink])
    assert planted.exists()
    store_of(sink).chmod(0o711)
    transaction.sweep([sink])
    assert not planted.exists() and len(generations(sink)) == 3


@needs_root
def test_generations_of_a_former_owner_go_too(tmp_path: Path) -> None:
    """A changed `owner` leaves no old secret behind."""
    for number, owner in enumerate(["12345", "12345", "23456", "23456", "23456"], 1):
        sink = directory(tmp_path / "credentials", owner=owner, group="54321", keep=1)
        publish([sink], key(number), number)
    assert [name.partition("-")[0] for name in generations(sink)] == ["000004", "000005"]


def test_a_failure_to_prune_is_a_warning_and_no_error(sink: DirectorySink, capsys: pytest.CaptureFixture[str]) -> None:
    """A directory that its owner made in an old generation stays; its files go, the publish is done, the log says so."""
    publish([sink], key(1), 1)
    old = Path(sink.path).resolve()
    (old / "mine").mkdir()
    for number in range(2, 6):
        publish([sink], key(number), number)
    gone = old.with_name(f"{old.name}.gone")
    assert [path.name for path in gone.iterdir()] == ["mine"]
    assert read(sink) == expected(sink, 5) and len(generations(sink)) == 4
    assert "an unused generation could not be removed" in capsys.readouterr().out
    (gone / "mine").rmdir()
    publish([sink], key(6), 6)
    assert not gone.exists() and len(generations(sink)) == 3


@pytest.mark.parametrize("call", ["unlink", "rmdir", "listdir", "readlink"])
def test_no_error_of_pruning_reaches_the_publish(sink: DirectorySink, call: str) -> None:
    """The switch is done by then: whichever call fails, the value is published."""
    for number in (1, 2, 3):
        publish([sink], key(number), number)
    with transaction.survey([sink], key(4), 4).stage() as staged, pytest.MonkeyPatch.context() as patch:
        real, armed = os.rename, []

        def rename(*args: object, **kwargs: object) -> None:
            real(*args, **kwargs)  # type: ignore[arg-type]
            patch.setattr(os, call, fail)

        def fail(*_: object, **__: object) -> None:
            armed.append(call)
            raise OSError(5, "injected")

        patch.setattr(os, "rename", rename)
        staged.commit()
    assert armed and read(sink) == expected(sink, 4)
    publish([sink], key(5), 5)
    assert len(generations(sink)) == 3


def test_a_locked_generation_is_not_pruned(sink: DirectorySink) -> None:
    """A reader that needs longer than `keep` generations holds a lock; it goes at the first publish after that."""
    publish([sink], key(1), 1)
    fd = os.open(sink.path, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(fd, fcntl.LOCK_SH)
    for number in range(2, 8):
        publish([sink], key(number), number)
        transaction.sweep([sink])
    assert sorted(os.listdir(fd)) == NAMES and len(generations(sink)) == 4
    os.close(fd)
    publish([sink], key(8), 8)
    assert len(generations(sink)) == 3


@with_mounts
def test_a_mount_over_a_generation_is_not_emptied(tmp_path: Path) -> None:
    """What is mounted there belongs to another file system."""
    sink, volume = directory(tmp_path / "credentials"), tmp_path / "volume"
    publish([sink], key(1), 1)
    old = Path(sink.path).resolve()
    volume.mkdir()
    (volume / "precious").write_text("mine")
    bind_mount(old, volume)
    for number in range(2, 6):
        publish([sink], key(number), number)
    assert (volume / "precious").read_text() == "mine" and read(sink) == expected(sink, 5)

"""The file itself: what stands in its place, and who can write it."""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.config.load import load
from agent.core.errors import EXIT_NOT_PERMITTED, ConfigError, NotPermittedError
from agent.core.settings import Settings
from agent.system.accounts import SystemAccounts
from tests.support.settings import ENVIRON, GOOD, REGISTRY, Users, read


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A sound config on disk."""
    path = tmp_path / "keyturn.toml"
    path.write_text(GOOD)
    path.chmod(0o644)
    return path


def loaded(path: Path | str) -> Settings:
    """Load a file in the small world."""
    return load(str(path), REGISTRY, environ=ENVIRON, users=Users())


def test_a_file_is_read(config: Path) -> None:
    """A file means what its text means."""
    assert loaded(config) == read(GOOD)


def test_a_link_to_a_file_is_read(config: Path, tmp_path: Path) -> None:
    """Configuration management likes to link the config into place."""
    link = tmp_path / "link.toml"
    link.symlink_to(config)
    assert loaded(link) == read(GOOD)


def test_problems_name_the_file(config: Path) -> None:
    """An operator with several configs sees which one it is."""
    config.write_text("x = 1\n" + GOOD)
    with pytest.raises(ConfigError) as caught:
        loaded(config)
    assert caught.value.problems == (f"{config}:1:1: x: unknown key; known here: credentials, agent, cloud, fleet",)


INSTEAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "nothing": (
        lambda path: None,
        "there is no such file; write one with `keyturn init`, or name another file with --config",
    ),
    "a directory": (Path.mkdir, "is not a regular file; name the config file itself with --config"),
    "a pipe that nobody writes": (os.mkfifo, "is not a regular file; name the config file itself with --config"),
    "a link to itself": (
        lambda path: path.symlink_to(path),
        "is not a regular file; name the config file itself with --config",
    ),
    "something huge": (
        lambda path: path.write_bytes(b"#" * (1024 * 1024 + 1)),
        "is larger than 1 MiB, which no config of keyturn is; name the config file with --config",
    ),
}


@pytest.mark.parametrize(("make", "sentence"), INSTEAD.values(), ids=INSTEAD)
def test_what_is_no_file_has_its_sentence(tmp_path: Path, make: Callable[[Path], object], sentence: str) -> None:
    """Whatever stands where the config should be, it is named, and nothing waits."""
    path = tmp_path / "keyturn.toml"
    make(path)
    with pytest.raises(ConfigError) as caught:
        loaded(path)
    assert caught.value.problems == (f"{path}: {sentence}",)


def test_a_path_through_a_file_has_its_sentence(config: Path) -> None:
    """The kernel's reason is told where keyturn has none of its own."""
    with pytest.raises(ConfigError, match="cannot be read \\(not a directory\\); name the config file with --config"):
        loaded(config / "x")


def test_a_path_with_a_nul_has_its_sentence() -> None:
    """Not even a name that no file can have makes a traceback."""
    with pytest.raises(ConfigError, match="cannot be read"):
        loaded("/etc/\0")


def test_a_file_that_may_not_be_read_exits_with_77(config: Path) -> None:
    """The remedy is another one than for a bad config, and so is the exit code."""
    config.chmod(0)
    with pytest.raises(NotPermittedError) as caught:
        as_nobody(lambda: loaded(config))
    assert caught.value.exit_code == EXIT_NOT_PERMITTED
    assert "may not read the config" in caught.value.problem


def as_nobody(act: Callable[[], object]) -> None:
    """Act as a user without privileges, also when root runs the tests."""
    was = os.geteuid()
    if was == 0:
        os.seteuid(65534)
    try:
        act()
    finally:
        os.seteuid(was)


@pytest.mark.parametrize("mode", [0o664, 0o646])
def test_a_file_that_others_can_write_is_refused(config: Path, tmp_path: Path, mode: int) -> None:
    """Whoever writes the config runs commands as keyturn; of a link, the file at its end counts."""
    config.chmod(mode)
    link = tmp_path / "link.toml"
    link.symlink_to(config)
    for path in (config, link):
        with pytest.raises(ConfigError) as caught:
            loaded(path)
        (problem,) = caught.value.problems
        assert problem == f"{path}: its mode {mode:04o} lets others than its owner change it; chmod go-w {path}"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_somebody_else_is_refused(config: Path) -> None:
    """Its owner can write it, whatever its mode says."""
    os.chown(config, pwd.getpwnam("nobody").pw_uid, -1)
    with pytest.raises(ConfigError, match=f"belongs to user nobody, who could change it; chown root {config}"):
        loaded(config)


def test_accounts_are_those_of_the_machine() -> None:
    """Names are looked up; numbers are somebody without being listed."""
    users = SystemAccounts()
    me, us = pwd.getpwuid(os.geteuid()), grp.getgrgid(os.getegid())
    assert (users.uid_of(me.pw_name), users.gid_of(us.gr_name)) == (me.pw_uid, us.gr_gid)
    assert (users.uid_of("54321"), users.gid_of("54321")) == (54321, 54321)


@pytest.mark.parametrize("name", ["", "no-such-name-here", "a\0b", "4294967295", "99999999999", "-1", "²"])
def test_who_does_not_exist_is_nobody(name: str) -> None:
    """Neither an odd name nor a number beyond the kernel's is anybody."""
    users = SystemAccounts()
    assert (users.uid_of(name), users.gid_of(name)) == (None, None)

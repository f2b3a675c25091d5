"""The settings of a `directory` sink and of its files; the config's own words for them are in tests/config."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields
from pathlib import Path
from typing import Any

import pytest

from agent.core.settings import FilePath
from agent.sinks.formats.credentials_ini import CredentialsIni
from agent.sinks.formats.directory import DirectorySettings, MemberSettings, member_of
from agent.sinks.formats.env_file import EnvFile
from agent.sinks.interface import SinkContext
from tests.support.sinks import directory, env_member, json_member, session


def problems(settings: Any) -> dict[str, str]:
    """Key -> sentence, of every class in the hierarchy, as the loader asks."""
    found: dict[str, str] = {}
    for cls in type(settings).__mro__:
        if "problems" in vars(cls):
            found.update(vars(cls)["problems"](settings))
    return found


def settings(*members: MemberSettings, **more: Any) -> DirectorySettings:
    """Those of a directory."""
    more = {"path": FilePath("/run/app/credentials"), **more}
    return DirectorySettings(type="directory", files=members, **more)


def test_a_file_has_the_keys_of_its_type_and_a_name() -> None:
    """What is the directory's (path, owner, group, mode, write) is none of its keys; defaults are the type's."""
    made = member_of(EnvFile)
    assert [each.name for each in fields(made)] == ["type", "name", "variables", "dialect"]
    assert env_member().dialect == "systemd"  # type: ignore[attr-defined]
    assert member_of(EnvFile) is made and env_member() == env_member()
    with pytest.raises(FrozenInstanceError):
        env_member().name = "other"  # type: ignore[misc]


def test_a_file_becomes_an_ordinary_sink(tmp_path: Path) -> None:
    """Its path leads through the link, and owner, group, mode and context are the directory's."""
    whole = directory(tmp_path / "c", env_member(dialect="shell"), owner="1", group="2", mode=0o640)
    ((name, sink),) = whole.files
    told = sink.settings
    assert (name, sink.path) == ("aliyun.env", f"{tmp_path}/c/aliyun.env")
    assert (told.owner, told.group, told.mode, told.dialect) == ("1", "2", 0o640, "shell")
    context = SinkContext("uploader", "cn-beijing")
    assert {sink.context for _, sink in type(whole)(whole.settings, context).files} == {context}


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/a", "a\nb", "x" * 256, "ü" * 128])
def test_a_name_that_is_none_is_a_problem(name: str) -> None:
    """It can lead nowhere else."""
    assert list(problems(json_member(name))) == ["name"]


def test_a_file_is_judged_by_the_rules_of_its_type() -> None:
    """The problems of its type's own settings are its problems."""
    assert list(problems(member_of(CredentialsIni)(type="credentials_ini", name="a", profile="DEFAULT"))) == ["profile"]
    assert list(problems(env_member(variables={"A B": "access_key_id"}))) == ["variables"]
    assert problems(env_member()) == {}


WRONG = {
    "no file": (settings(), "files"),
    "too many files": (settings(*[json_member(f"{number}") for number in range(65)]), "files"),
    "nothing kept": (settings(json_member(), keep=0), "keep"),
    "too much kept": (settings(json_member(), keep=11), "keep"),
    "in place": (settings(json_member(), write="in_place"), "write"),
    "open to everyone": (settings(json_member(), mode=0o644), "mode"),
    "a name without room for the store's": (settings(json_member(), path=FilePath("/run/" + "x" * 247)), "path"),
    "one name for two whole files": (settings(json_member("a"), json_member("a")), "files[1].name"),
    "one name for a whole file and a part": (settings(env_member("a"), json_member("a")), "files[1].name"),
    "one part twice": (settings(env_member("a"), env_member("a")), "files[1].name"),
}


@pytest.mark.parametrize("case", WRONG)
def test_an_impossible_directory_is_a_problem_of_one_key(case: str) -> None:
    """Each with the key that is to be corrected."""
    found, key = WRONG[case]
    assert list(problems(found)) == [key]


def test_a_sound_directory_has_no_problem() -> None:
    """Two parts may share a file; the longest name and the bounds of `keep` are fine."""
    parts = env_member("a"), env_member("a", variables=("oss",)), json_member("b")
    assert problems(settings(*parts, keep=1)) == problems(settings(*parts, keep=10)) == {}
    assert problems(settings(*parts, path=FilePath("/run/" + "x" * 246))) == {}


def test_check_hears_the_warnings_of_every_file() -> None:
    """By the file's name; and the types that readers find there are those of the files."""
    ini = member_of(CredentialsIni)(type="credentials_ini", name="c.ini")
    whole = directory(Path("/run/app/c"), env_member(), ini)
    assert whole.formats == ("env_file", "credentials_ini")
    assert [text.partition(":")[0] for text in whole.warnings_for(session())] == ["c.ini"]
    assert all(text.startswith(("aliyun.env: ", "c.ini: ")) for text in whole.inspect())

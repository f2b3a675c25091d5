"""A profile that names a command instead of a key, and the SDKs that write the key into it all the same."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
from alibabacloud_credentials.provider.cli_profile import CLIProfileCredentialsProvider

from agent.app.wiring import keyturn_command
from agent.core.credential import Credential
from agent.core.errors import SinkError
from agent.core.settings import FilePath
from agent.sinks.check import inspect
from agent.sinks.formats.aliyun_cli import AliyunCli, AliyunCliSettings
from agent.sinks.interface import SinkContext
from agent.sinks.transaction import transaction
from tests.support.sinks import bearer, key, publish, session

KEYTURN = ("/usr/bin/keyturn", "--config", "/etc/my app/k.toml")
WANTED = {"name": "default", "mode": "External", "process_command": f"{shlex.join(KEYTURN)} credential uploader"}


def external(
    path: Path | str = "/home/app/.aliyun/config.json", command: tuple[str, ...] = KEYTURN, **more: Any
) -> AliyunCli:
    settings = AliyunCliSettings(type="aliyun_cli", path=FilePath(path), profile_mode="External", **more)
    return AliyunCli(settings, SinkContext("uploader", "cn-hangzhou", command))


def keys(path: Path | str = "/home/app/.aliyun/config.json") -> AliyunCli:
    settings = AliyunCliSettings(type="aliyun_cli", path=FilePath(path))
    return AliyunCli(settings, SinkContext("uploader", "cn-hangzhou", KEYTURN))


def profile(text: bytes) -> dict[str, Any]:
    (one,) = json.loads(text)["profiles"]
    return dict(one)


def answering(tmp_path: Path) -> tuple[str, ...]:
    """A command that hands out a key as `keyturn credential` does."""
    answer = {"mode": "AK", "access_key_id": "LTAI5tServed", "access_key_secret": "servedSecret"}
    answer |= {"sts_token": "", "expiration": "2099-01-01T00:00:00Z"}
    script = tmp_path / "answer.py"
    script.write_text(f"import json; print(json.dumps({answer!r}))")
    return (sys.executable, str(script))


@pytest.mark.parametrize("value", [key(), session()], ids=["key", "session"])
def test_no_part_of_the_value_is_in_the_file(value: Credential) -> None:
    """Whatever the value is, the profile says only how to ask for it; it is the same after every rotation."""
    text = external().render(None, value, 1)
    assert {name: profile(text)[name] for name in WANTED} == WANTED
    assert profile(text).keys().isdisjoint({"access_key_id", "access_key_secret", "sts_token"})
    assert external().render(text, key(2), 2) == text
    assert external().formats == ("aliyun_cli External",) and keys().formats == ("aliyun_cli",)


def test_what_an_sdk_could_not_use_is_refused_all_the_same() -> None:
    """A bearer token is no key, whoever hands it out."""
    with pytest.raises(SinkError, match="kind bearer"):
        external().render(None, bearer(), 1)


def test_the_sdk_finds_the_key_by_the_command_and_writes_it_back(tmp_path: Path) -> None:
    """The trap as it is: after one call the file holds the key. It is told from other drift, and the next pass removes it."""
    path, sink = tmp_path / "config.json", external(tmp_path / "config.json", answering(tmp_path))
    publish([sink], key())
    clean = path.read_bytes()
    got = CLIProfileCredentialsProvider(profile_file=str(path)).get_credentials()
    assert (got.get_access_key_id(), got.get_access_key_secret()) == ("LTAI5tServed", "servedSecret")
    assert b"servedSecret" in path.read_bytes()
    found = transaction.survey([sink], key(), 1)
    assert any("an SDK wrote a key into this file" in one.text for one in inspect(sink))
    assert found.only_written_back and [one.differs for one in found.sinks] == ["written back"]
    publish([sink], key())
    assert profile(path.read_bytes()) == profile(clean) and b"servedSecret" not in path.read_bytes()
    assert not transaction.survey([sink], key(), 1).only_written_back  # in sync


@pytest.mark.parametrize(
    "change",
    [{"process_command": "/tmp/other"}, {"mode": "AK"}, {"mode": "AK", "access_key_id": "x"}, {"name": "other"}],
    ids=["another command", "another mode", "a key of somebody's", "another name"],
)
def test_other_drift_is_no_write_back(change: dict[str, str]) -> None:
    """It is put right each time, for nobody but an SDK comes again each minute."""
    config = json.loads(external().render(None, key(), 1))
    config["profiles"][0] |= change
    text = json.dumps(config).encode()
    assert not external().only_written_back(text)
    after = json.loads(external().render(text, key(), 1))["profiles"]
    assert {name: after[-1][name] for name in WANTED} == WANTED
    assert external().render(json.dumps({"profiles": after}).encode(), key(), 1)


def test_typed_writers_lose_keys_and_the_next_pass_puts_them_back() -> None:
    """Go writes every field that it knows, Java none that it does not know: the region goes, and comes back."""
    config = json.loads(external().render(None, key(), 1))
    config["profiles"][0] |= {"access_key_id": "a", "access_key_secret": "b", "sts_token": "", "ram_role_arn": ""}
    del config["profiles"][0]["region_id"]
    text = json.dumps(config).encode()
    assert external().only_written_back(text)
    after = profile(external().render(text, key(), 1))
    assert after["region_id"] == "cn-hangzhou" and "access_key_id" not in after and "sts_token" not in after


@pytest.mark.parametrize("junk", [b"", b"{", b"[]", b"{}", b'{"profiles": null}', b"\xff"])
def test_what_is_no_config_is_no_write_back(junk: bytes) -> None:
    """Asked of whatever lies there, it never raises."""
    assert external().only_written_back(junk) is False


def test_a_profile_changes_from_keys_to_the_command_and_back() -> None:
    """An operator who adds `profile_mode`, or takes it out again, need not delete the profile by hand."""
    held = keys().render(None, session(), 1)
    named = external().render(held, session(), 2)
    assert {name: profile(named)[name] for name in WANTED} == WANTED and "sts_token" not in profile(named)
    back = profile(keys().render(named, key(), 3))
    assert back["mode"] == "AK" and back.keys().isdisjoint({"process_command", "sts_token"})


def test_somebody_elses_command_is_not_replaced_by_a_key() -> None:
    """A sink of keys refuses a profile whose command is not ours, as every other mode."""
    theirs = external(command=("/opt/theirs",)).render(None, key(), 1)
    with pytest.raises(SinkError, match="another mode"):
        keys().render(theirs, key(), 1)


def test_a_mode_in_which_the_group_may_write_is_a_config_problem() -> None:
    """Node and Java write the file in place."""
    assert [where for where, _ in external(mode=0o660).settings.problems()] == ["mode"]
    assert [*external(mode=0o640).settings.problems()] == []


def test_the_command_is_that_of_this_installation_and_names_another_config() -> None:
    """Who runs it has neither our PATH nor our working directory nor KEYTURN_CONFIG."""
    (default,) = keyturn_command("/etc/keyturn/keyturn.toml")
    assert os.path.isabs(default) and os.path.basename(default) == "keyturn" and os.access(default, os.X_OK)
    assert keyturn_command("k.toml") == (default, "--config", os.path.abspath("k.toml"))


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files away")
def test_check_says_how_the_application_is_kept_from_writing(tmp_path: Path) -> None:
    """The owner of the file, the owner of its directory and a group of it: each is an error until its remedy was run."""
    tmp_path.chmod(0o755)

    def wrong(**more: Any) -> list[str]:
        sink = external(tmp_path / "config.json", ("/bin/true",), group="games", mode=0o640, **more)
        return [one.remedy for one in inspect(sink) if one.level == "error"]

    assert wrong() == []
    os.chown(tmp_path, 12345, -1)
    (remedy,) = wrong()
    assert os.system(remedy.strip("`")) == 0 and wrong() == []
    tmp_path.chmod(0o775)
    (remedy,) = wrong()
    assert os.system(remedy.strip("`")) == 0 and wrong() == []
    assert tmp_path.stat().st_mode & 0o7777 == 0o750 and tmp_path.group() == "games"
    (remedy,) = wrong(owner="games")
    assert remedy.startswith("leave `owner` out")


def test_check_warns_of_a_command_that_the_application_cannot_run(tmp_path: Path) -> None:
    """A virtual environment below a home that is closed: every call of the application would fail."""
    program = tmp_path / "keyturn"
    program.touch(0o755)
    program.chmod(0o700)
    tmp_path.chmod(0o755)
    found = [*inspect(external(tmp_path / "config.json", (str(program),)))]
    assert any(one.level == "warning" and str(program) in one.text for one in found)


def test_check_warns_of_a_path_that_some_sdks_cut_apart(tmp_path: Path) -> None:
    """Run: Node 2.4.5 takes a quoted path for two words, 2.4.7 does not."""
    tmp_path.chmod(0o755)

    def warned(config: str) -> bool:
        sink = external(tmp_path / "config.json", ("/bin/true", "--config", config))
        return any("cut apart" in one.text for one in inspect(sink))

    assert warned("/etc/my app/k.toml") and not warned("/etc/keyturn/k.toml")

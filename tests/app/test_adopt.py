"""`keyturn adopt`: what it sees of a hand-copied key, what it refuses, and how it takes one. Against an emulated RAM."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.app import wiring, without_daemon
from agent.app.adopt import adopt_from_disk
from agent.core.errors import EXIT_NOT_PERMITTED, KeyturnError, SinkError, UsageError
from agent.core.events import Actor, Cause, Trigger
from providers.emulator import Cloud, EmulatorServer
from providers.emulator.model import AccessKey
from providers.emulator.pki import server_context

ACTIONS = ("ListAccessKeys", "GetAccessKeyLastUsed", "CreateAccessKey", "UpdateAccessKey", "DeleteAccessKey")
NAME = "reporter"


class Host:
    """A host to which somebody copied the key of RAM user `reporter` by hand, into two files."""

    def __init__(self, directory: Path, authority: Path) -> None:
        self.directory, self.cloud, self.ca_file = directory, Cloud(), authority / "ca.pem"
        self.cloud.add_user("reporter")
        self.key = self.cloud.add_access_key("reporter")
        self.cloud.add_user("ops", *(f"ram:{action}" for action in ACTIONS))
        self.ops = self.cloud.add_access_key("ops")
        place = directory / "cloud"
        place.mkdir(mode=0o700)
        for name in ("ca.pem", "ca-key.pem"):
            shutil.copy2(authority / name, place / name)
        self.server = EmulatorServer(self.cloud, place)
        self.ini, self.env = directory / "credentials.ini", directory / "aliyun.env"
        self.copy(self.key)
        self.authorize(self.ops)

    def copy(self, key: AccessKey, *, ini: bool = True, env: bool = True) -> None:
        """Copy a key by hand."""
        parts = {"access_key_id": key.access_key_id, "access_key_secret": key.access_key_secret}
        if ini:
            lines = "".join(f"{name} = {value}\n" for name, value in parts.items())
            self._write(self.ini, f"[default]\ntype = access_key\n{lines}")
        if env:
            self._write(self.env, "".join(f"ALIBABA_CLOUD_{name.upper()}={value}\n" for name, value in parts.items()))

    def authorize(self, key: AccessKey) -> None:
        self._write(self.directory / "id", key.access_key_id)
        self._write(self.directory / "secret", key.access_key_secret)

    def _write(self, path: Path, text: str) -> None:
        path.write_text(text)
        path.chmod(0o600)

    def settings(self, provider: str = "", owner: bool = True) -> Any:
        """The config, read from its file."""
        server, here = self.server, self.directory
        config = here / "keyturn.toml"
        authority = f"""\
type = "ram_user"
ram_user_name = "reporter"
owner = {json.dumps(owner)}
every = "60d"

[credentials.{NAME}.provider.authority]
type = "access_key"
access_key_id_from_file_path = "{here}/id"
access_key_secret_from_file_path = "{here}/secret"
"""
        self._write(
            config,
            f"""\
[agent]
state_directory = "{here}/state"
runtime_directory = "{here}/run"
settle = "0s"
[agent.audit]
path = "{here}/audit.jsonl"
[cloud]
ca_file = "{self.ca_file}"
sts_endpoint = "{server.endpoint_of("sts")}"
ram_endpoint = "{server.endpoint_of("ram")}"
ims_endpoint = "{server.endpoint_of("ims")}"
[credentials.{NAME}.provider]
{provider or authority}
[[credentials.{NAME}.sinks]]
type = "credentials_ini"
path = "{self.ini}"
[[credentials.{NAME}.sinks]]
type = "env_file"
path = "{self.env}"
variables = ["alibaba_cloud"]
dialect = "systemd"
[[credentials.{NAME}.notify]]
type = "exec"
command = ["/bin/sh", "-c", "echo told >> {here}/told"]
""",
        )
        return wiring.load_settings(str(config), {})

    def look(self, **config: Any) -> dict[str, Any]:
        """As `keyturn adopt --dry-run --json`, where no daemon runs."""
        return adopt_from_disk(self.settings(**config), {}, NAME)

    def take(self, agreed: str) -> dict[str, Any]:
        """As the second half of `keyturn adopt`, where no daemon runs."""
        cause = Cause(Trigger.OPERATOR, Actor(0, "root", 1))
        config = str(self.directory / "keyturn.toml")
        return without_daemon.run_here(
            self.settings(), config, {}, lambda commands: commands.adopt(NAME, agreed, cause), lambda _remark: None
        )

    def audit(self, event: str) -> list[dict[str, Any]]:
        lines = (self.directory / "audit.jsonl").read_text().splitlines()
        return [one for one in map(json.loads, lines) if one["event"] == event]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with one CA for all: to load the system's beside it takes a while, and is done once a CA."""
    directory = tmp_path_factory.mktemp("authority")
    server_context(directory)
    return directory


@pytest.fixture
def host(tmp_path: Path, authority: Path) -> Iterator[Host]:
    """One with its cloud."""
    made = Host(tmp_path, authority)
    with made.server:
        yield made


def test_a_hand_copied_key_is_seen_and_taken(host: Host) -> None:
    """The look changes nothing, in RAM or on disk, and says what will be done; the key becomes ours, and its files stay."""
    key_id, before = host.key.access_key_id, host.ini.read_bytes()
    seen = host.look()
    assert (seen["error"], seen["exit_code"], seen["access_key_id"]) == (None, 0, key_id)
    assert {one["access_key_id"] for one in seen["files"]} == {key_id}
    assert seen["identity"].endswith(":user/reporter") and seen["authority"]["identity"].endswith(":user/ops")
    assert [(one["whose"], one["last_used_at"]) for one in seen["keys"]] == [("in the files", None)]
    assert [one["when"] for one in seen["steps"]][:2] == ["now", "now"]
    assert not (host.directory / "state").exists()
    assert {call.action for call in host.cloud.calls} <= {"GetCallerIdentity", "ListAccessKeys", "GetAccessKeyLastUsed"}
    assert host.ini.read_bytes() == before
    taken = host.take(key_id)
    assert (taken["adopted"], taken["generation"], taken["error"], taken["warnings"]) == (
        True,
        1,
        None,
        seen["warnings"],
    )
    assert ["only host" in one for one in seen["warnings"]] == [True]
    assert all(host.key.access_key_secret in path.read_text() for path in (host.ini, host.env))
    assert (host.directory / "told").read_text() == "told\n"
    (record,) = host.audit("key_adopted")
    assert (record["access_key_id"], record["actor"]["user"]) == (key_id, "root")
    again = host.look()
    assert (again["already"], again["error"]) == (True, None)
    assert host.cloud.calls_of("CreateAccessKey") == []


def test_an_old_key_is_due_at_once_and_that_is_said(host: Host) -> None:
    """What counts is when RAM made it, not when it came under rotation."""
    host.key.created_at -= 400 * 86400
    seen = host.look()
    assert "at once" in [one["when"] for one in seen["steps"]]
    host.take(host.key.access_key_id)
    state = wiring.StateStore(host.directory / "state").peek(NAME)
    created_at = state.published.created_at
    assert created_at is not None and abs(created_at.timestamp() - host.key.created_at) < 1


def test_the_last_use_is_that_of_others(host: Host) -> None:
    """The look signs with the key itself, after it has asked; a second look then shows the first one's call."""
    assert host.look()["keys"][0]["last_used_at"] is None
    assert host.look()["keys"][0]["service"] == "Sts"


def disagree(host: Host) -> None:
    host.copy(host.cloud.add_access_key("ops"), ini=False)


def other_secret(host: Host) -> None:
    key = host.key
    host.copy(AccessKey(key.access_key_id, "another-secret", key.user, 0.0, 0.0), ini=False)


def other_user(host: Host) -> None:
    host.copy(host.ops)


def no_file(host: Host) -> None:
    host.ini.unlink()
    host.env.unlink()


def a_session(host: Host) -> None:
    made = host.cloud.new_session(host.cloud.user("reporter"), "x", 3600.0)
    text = (
        f"ALIBABA_CLOUD_ACCESS_KEY_ID={made.access_key_id}\nALIBABA_CLOUD_ACCESS_KEY_SECRET={made.access_key_secret}\n"
    )
    host.env.write_text(f"{text}ALIBABA_CLOUD_SECURITY_TOKEN={made.security_token}\n")
    host.ini.unlink()


def inactive(host: Host) -> None:
    host.cloud.set_status(host.key.access_key_id, "Inactive")


def deleted(host: Host) -> None:
    host.cloud.delete_access_key(host.key.access_key_id)


def foreign(host: Host) -> None:
    host.cloud.add_access_key("reporter")


def no_permission(host: Host) -> None:
    host.cloud.forbid("ops", "ram:ListAccessKeys")


def no_authority(host: Host) -> None:
    (host.directory / "secret").unlink()


def broken_file(host: Host) -> None:
    host.ini.unlink()
    host.ini.mkdir()


REFUSALS = {
    "the files disagree about the key": (disagree, 1),
    "the files disagree about its secret": (other_secret, 1),
    "the key is another user's": (other_user, 1),
    "no file holds a key": (no_file, 1),
    "the files hold a session": (a_session, 1),
    "the key is inactive": (inactive, 1),
    "the key is gone": (deleted, 1),
    "the user has a second key of somebody else's": (foreign, 1),
    "the authority may not look": (no_permission, EXIT_NOT_PERMITTED),
    "the authority's key is not there": (no_authority, 1),
    "a file cannot be read": (broken_file, 1),
}


@pytest.mark.parametrize("why", REFUSALS)
def test_what_is_not_clear_is_refused_in_one_sentence(host: Host, why: str) -> None:
    """With place, remedy and exit code, and without the secret; to insist changes nothing."""
    spoil, code = REFUSALS[why]
    spoil(host)
    seen = host.look()
    assert seen["exit_code"] == code
    assert seen["error"].startswith(f"credentials.{NAME}") and "; " in seen["error"]
    assert host.key.access_key_secret not in json.dumps(seen)
    insisted = host.take(host.key.access_key_id)
    assert (insisted["adopted"], insisted["exit_code"]) == (False, code)
    assert host.audit("key_adopted") == []
    assert {"CreateAccessKey", "UpdateAccessKey", "DeleteAccessKey"}.isdisjoint(one.action for one in host.cloud.calls)


def test_only_the_owner_takes_a_key(host: Host) -> None:
    """Elsewhere it is refused before anybody is asked; and so is a source that is no ram_user."""
    seen = host.look(owner=False)
    assert seen["exit_code"] == UsageError("").exit_code
    assert host.cloud.calls == []
    other = f'type = "access_key"\naccess_key_id_from_file_path = "{host.directory}/id"\n'
    other += f'access_key_secret_from_file_path = "{host.directory}/secret"\n'
    with pytest.raises(UsageError):
        host.look(provider=other)


def test_a_key_that_was_copied_over_the_one_in_use(host: Host) -> None:
    """The new one is taken, and not overwritten with the one before; that one stays ours, and ends as any other."""
    host.take(host.key.access_key_id)
    second = host.cloud.add_access_key("reporter")
    host.copy(second)
    taken = host.take(second.access_key_id)
    assert (taken["adopted"], taken["generation"], taken["warnings"]) == (True, 2, [])
    assert all(second.access_key_secret in path.read_text() for path in (host.ini, host.env))
    record = wiring.StateStore(host.directory / "state").peek(NAME).ram.record
    before = record.key(host.key.access_key_id)
    assert before is not None and before.replaced_at is not None
    assert {one["whose"] for one in host.look()["keys"]} == {"in the files", "keyturn's"}


def test_a_death_behind_the_record_is_made_good(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key is ours and not published: the next run publishes it from the files, and adopts nothing anew."""

    class Death(BaseException):
        """kill -9, as far as the state is concerned."""

    def die(_held: object) -> list[str]:
        raise Death

    with monkeypatch.context() as patch:
        patch.setattr("agent.app.adopt._publish", die)
        with pytest.raises(Death):
            host.take(host.key.access_key_id)
    assert host.look()["already"] is True
    config, here = str(host.directory / "keyturn.toml"), host.settings()
    answer = without_daemon.run_here(
        here, config, {}, lambda commands: commands.once([], lambda _step: None, print, retry_for_s=0.0), print
    )
    (row,) = answer["credentials"]
    assert (answer["exit_code"], row["generation"], row["access_key_id"]) == (0, 1, host.key.access_key_id)
    assert len(host.audit("key_adopted")) == 1
    assert host.cloud.calls_of("CreateAccessKey") == []


def test_a_file_that_cannot_be_written_fails_the_command_and_the_next_one_publishes(host: Host) -> None:
    """The key is ours then, and not published: that is an exit code, not a note; to repeat the command publishes it."""
    host.ini.write_text(host.ini.read_text().replace("type = access_key", "type = ram_role_arn"))
    host.ini.chmod(0o600)
    taken = host.take(host.key.access_key_id)
    assert (taken["adopted"], taken["published"], taken["generation"]) == (True, False, 0)
    assert taken["exit_code"] != 0 and taken["error"]
    host.copy(host.key)
    seen = host.look()
    assert (seen["already"], seen["published"], seen["error"]) == (True, False, None)
    again = host.take(host.key.access_key_id)
    assert (again["published"], again["generation"], again["exit_code"]) == (True, 1, 0)
    assert len(host.audit("key_adopted")) == 1


def test_what_was_agreed_to_is_what_is_taken(host: Host) -> None:
    """Between the question and the answer the files may change: then nothing is done."""
    with pytest.raises(SinkError):
        host.take("LTAI5tAnotherOne")
    assert host.audit("key_adopted") == []


def test_a_user_that_rotates_itself_is_warned_of(host: Host) -> None:
    """It works until the key leaks, and then it cannot."""
    host.cloud.allow("reporter", *(f"ram:{action}" for action in ACTIONS))
    host.authorize(host.key)
    seen = host.look()
    assert seen["error"] is None
    assert len(seen["warnings"]) == 2


def test_an_authority_that_cannot_see_the_last_use_is_warned_of(host: Host) -> None:
    """Without it no key is ever disabled; the key may be taken all the same."""
    host.cloud.forbid("ops", "ram:GetAccessKeyLastUsed")
    seen = host.look()
    assert (seen["error"], len(seen["warnings"])) == (None, 2)
    assert "ram:GetAccessKeyLastUsed" in seen["warnings"][0]


def test_a_key_of_a_state_that_was_copied_is_taken_anew(host: Host) -> None:
    """The state directory of another machine says nothing about this one until its key is adopted here."""
    host.look()
    host.take(host.key.access_key_id)
    store = wiring.StateStore(host.directory / "state")
    assert store.peek(NAME).ram.record.key(host.key.access_key_id) is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("agent.app.adopt.machine", lambda: "another")
        assert host.look()["already"] is False


def test_a_credential_that_is_not_in_the_config(host: Host) -> None:
    """Named as such, exit 2."""
    with pytest.raises(KeyturnError) as caught:
        adopt_from_disk(host.settings(), {}, "nobody")
    assert isinstance(caught.value, UsageError)

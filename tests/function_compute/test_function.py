"""The example of docs/function_compute, as it stands there, in a stand-in (tests/support/function_compute.py)."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.app.wiring import load_settings
from agent.core.errors import SourceRefusedError
from agent.ram_policy.identities import identities
from providers.emulator import Cloud, EmulatorServer
from providers.emulator.model import Session
from tests.support.function_compute import FC_PARTS, CustomRuntime, invoke_built_in, timer_event, variables

CODE = Path(__file__).parent.parent.parent / "docs" / "function_compute"
DONE = "keyturn once --retry-for 0s: done"


class Account:
    """An account with the RAM user `reporter`, a function with a role, and a file system for its instances."""

    def __init__(self, directory: Path) -> None:
        # Its clock is a minute behind, so that a key is a minute old when it is made.
        self.cloud = Cloud(lambda: time.time() - 60.0)
        self.cloud.add_user("reporter")
        self.role = self.cloud.add_role("rotator")
        self.server = EmulatorServer(self.cloud, directory / "cloud")
        self.mount, self.code = directory / "mnt", directory / "code"
        for made in (self.mount, self.mount / "reporter", self.mount / "log"):
            made.mkdir(mode=0o700)
        shutil.copytree(CODE, self.code)
        self.config = self.mount / "keyturn.toml"

    def configure(self, every: str = "60d", disable_after: str = "24h", delete_after: str = "14d") -> None:
        """Put the example's config onto the file system: other paths, this cloud, and keys that age as fast as is said."""
        text = (CODE / "keyturn.toml").read_text()
        for said, wanted in (("60d", every), ("24h", disable_after), ("14d", delete_after)):
            assert text.count(f'"{said}"') == 1
            text = text.replace(f'"{said}"', f'"{wanted}"')
        text = text.replace("/mnt/keyturn", str(self.mount)).replace("/tmp/keyturn", str(self.mount / "run"))
        endpoints = "".join(
            f'{product}_endpoint = "{self.server.endpoint_of(product)}"\n' for product in ("sts", "ram", "ims")
        )
        self.config.write_text(f'{text}\n[cloud]\nca_file = "{self.server.ca_file}"\n{endpoints}')
        (role,) = identities(load_settings(str(self.config), {}), {}, "reporter")
        policy = json.dumps(role.policy()).replace("<ACCOUNT_ID>", self.cloud.account_id)
        self.cloud.attach_policy(self.role, policy)  # what `keyturn policy` prints, and nothing else

    def session(self) -> dict[str, str]:
        """What Function Compute gets for the function's role: another one for each invocation."""
        made: Session = self.cloud.new_session(self.role, "fc", 3600.0)
        return {part: getattr(made, part) for part in FC_PARTS}

    def invoke(self, session: dict[str, str] | None = None, **event: Any) -> object:
        """One invocation in a new instance of the built-in runtime, by its time trigger or with another event."""
        given = self.session() if session is None else session
        sent = json.dumps(event).encode() if event else timer_event()
        return invoke_built_in(self.code, "index.handler", given, sent)

    def keys(self) -> dict[str, str]:
        return {key.access_key_id: key.status for key in self.cloud.keys_of("reporter")}

    def published(self) -> str:
        """The id of the key that the file has, whose secret is there too."""
        text = (self.mount / "reporter" / "credentials.ini").read_text()
        (key,) = [key for key in self.cloud.keys_of("reporter") if key.access_key_id in text]
        assert key.access_key_secret in text
        return key.access_key_id

    def audited(self, event: str) -> list[str]:
        lines = (self.mount / "log" / "audit.jsonl").read_text().splitlines()
        return [one["access_key_id"] for one in map(json.loads, lines) if one["event"] == event]


@pytest.fixture
def account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    """One with its cloud; this process is an instance of its function."""
    made = Account(tmp_path)
    for name, value in {**variables(made.code, 1), "KEYTURN_CONFIG": str(made.config)}.items():
        monkeypatch.setenv(name, value)
    with made.server:
        yield made


def test_a_timer_rotates_a_ram_user(account: Account, capfd: pytest.CaptureFixture[str]) -> None:
    """The first invocation makes a key, the second nothing, one that is due the next key; the first key ends."""
    account.configure()
    assert account.invoke() == DONE
    first = account.published()
    assert account.keys() == {first: "Active"}
    account.invoke()
    assert account.keys() == {first: "Active"}
    account.configure("50s", "0s", "0s")
    account.invoke()
    second = account.published()
    assert second != first
    account.invoke()
    assert account.audited("old_key_disabled")[:1] == account.audited("old_key_deleted")[:1] == [first]
    left = account.keys()
    assert first not in left and left[account.published()] == "Active"
    printed = capfd.readouterr()
    made = [key.access_key_secret for key in account.cloud.keys_of("reporter")]
    assert not any(secret in printed.out + printed.err for secret in made)


def test_a_key_that_was_copied_by_hand_is_adopted_by_an_event(
    account: Account, capfd: pytest.CaptureFixture[str]
) -> None:
    """Until then the timer's invocations fail, and say so; a look changes nothing."""
    account.configure()
    key = account.cloud.add_access_key("reporter")
    lines = f"access_key_id = {key.access_key_id}\naccess_key_secret = {key.access_key_secret}\n"
    file = account.mount / "reporter" / "credentials.ini"
    file.write_text(f"[default]\ntype = access_key\n{lines}")
    with pytest.raises(Exception, match="exit code"):
        account.invoke()
    assert "keyturn adopt reporter" in capfd.readouterr().err
    account.invoke(adopt="reporter", dry_run=True)
    assert key.access_key_id in capfd.readouterr().out
    assert account.audited("key_adopted") == []
    account.invoke(adopt="reporter")
    assert account.audited("key_adopted") == [key.access_key_id] == [account.published()]
    assert account.invoke() == DONE
    assert account.keys() == {key.access_key_id: "Active"}


def test_a_custom_runtime_is_served_over_http(account: Account) -> None:
    """Several invocations over one connection, each with a session of its own; what failed says so in `x-fc-status`."""
    account.configure()
    with CustomRuntime(account.code, 2, KEYTURN_CONFIG=str(account.config)) as instance:
        assert instance.invoke({}, timer_event())[:2] == (404, "404")
        assert account.keys() == {}
        assert instance.invoke(account.session(), timer_event()) == (200, "200", DONE)
        first = account.published()
        assert instance.invoke(account.session(), b"no json") == (200, "200", DONE)
        account.role.policies.clear()
        assert instance.invoke(account.session(), timer_event())[:2] == (404, "404")
    assert account.keys() == {first: "Active"}
    assert account.cloud.access_key(first).access_key_secret not in instance.log


def test_a_function_without_a_role_fails_and_changes_nothing(account: Account) -> None:
    """An exception, which Function Compute counts; the sentence says what is missing."""
    account.configure()
    with pytest.raises(SourceRefusedError) as caught:
        account.invoke(dict.fromkeys(FC_PARTS, ""))
    assert "access_key_id" in str(caught.value)
    assert account.cloud.calls == []

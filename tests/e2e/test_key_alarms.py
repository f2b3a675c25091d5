"""Alarms about keys on a real daemon: a ClientKey that expires, a key that is too old, a leaked key that an emergency meets."""

from __future__ import annotations

import json
from typing import Any

from providers.emulator.pki import client_key_file
from tests.support.scraper import Figures, free_port, get
from tests.support.vm import PASSWORD, Vm, eventually


def put_client_key(vm: Vm, days: int) -> str:
    """A new ClientKey of the access point, which ends in so many days, is put in the place of the one before."""
    key = vm.cloud.add_client_key()
    path = vm.directory / "clientKey.json"
    path.unlink()
    path.touch(mode=0o600)
    path.write_text(client_key_file(key, PASSWORD, days))
    return str(key.key_id)


def shown(vm: Vm) -> tuple[list[tuple[str, bool]], list[str]]:
    """The ClientKeys and whether each is an alarm; the alarms of the credential."""
    seen: dict[str, Any] = json.loads(vm.keyturn("status", "--json").stdout)
    keys = [(one["key_id"], one["is_alarm"]) for one in seen["agent"]["client_keys"]]
    return keys, [alarm["alarm"] for alarm in seen["credentials"]["uploader"]["alarms"]]


def test_a_client_key_that_expires_and_a_key_that_is_too_old(vm: Vm) -> None:
    """Said once each, over a restart too, wherever an alarm is said; `check` warns; a new ClientKey and a rotation end them."""
    old, port = put_client_key(vm, 5), free_port()
    agent = vm.agent(f'metrics_listen = "127.0.0.1:{port}"')
    vm.configure(agent + vm.credential(poll="1h", settings='max_age = "1s"'))
    daemon = vm.daemon().ready()
    eventually(lambda: shown(vm) == ([(old, True)], ["key_too_old"]))
    said = vm.keyturn("status").stdout
    assert f"ClientKey {old} expires in " in said and "is older than max_age" in said
    eventually(lambda: any(f"ClientKey {old} expires" in text for _at, text in daemon.listener.messages))
    figures = Figures(get(port, "/metrics").body)
    assert figures.get("keyturn_key_too_old", credential="uploader") == 1
    assert figures.get("keyturn_client_key_expiry_timestamp_seconds", client_key=old)
    checked = json.loads(vm.keyturn("check", "--json").stdout)["findings"]
    warned = {one["place"] for one in checked if one["level"] == "warning"}
    assert {"credentials.uploader.max_age", "credentials.uploader.provider.client_key_private_key_path"} <= warned
    assert daemon.stop() == 0

    vm.configure(agent + vm.credential(poll="1h", settings='max_age = "10d"'))
    new = put_client_key(vm, 365)
    daemon = vm.daemon().ready()
    assert vm.keyturn("refresh").returncode == 0
    assert shown(vm) == ([(new, False)], [])
    assert daemon.stop() == 0
    keys = [(record["event"], record["access_key_id"]) for record in vm.audit("client_key_expires", "key_too_old")]
    assert sorted(keys) == [
        ("client_key_expires", old),
        ("key_too_old", vm.cloud.current_key("uploader-ak").access_key_id),
    ]
    ended = {record["outcome"] for record in vm.audit("recovered")}
    assert ended == {"from client_key_expires", "from key_too_old"}
    assert vm.keyturn("audit", "verify").returncode == 0

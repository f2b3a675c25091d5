"""`canary = true` on a real daemon: a key that leaked raises an alarm, one that is refused is replaced before the next poll."""

from __future__ import annotations

import json
from typing import Any

from tests.support.scraper import Figures, free_port, get
from tests.support.vm import Vm, eventually


def shown(vm: Vm) -> dict[str, Any]:
    """What `status --json` says of the canary."""
    seen: dict[str, Any] = json.loads(vm.keyturn("status", "--json").stdout)["credentials"]["uploader"]
    found: dict[str, Any] = seen.get("canary", {"looks": [], "leak": None, "restricted": []})
    return found


def test_a_leaked_key_is_known_and_a_refused_one_is_replaced_at_once(vm: Vm) -> None:
    """An hour before the next poll: the alarm within a second or two, and after the key's end the new one in every file."""
    port = free_port()
    metrics = vm.agent(f'metrics_listen = "127.0.0.1:{port}"')
    vm.configure(metrics + vm.credential(poll="1h", settings="canary = true"))
    old = vm.cloud.current_key("uploader-ak")
    vm.cloud.restrict_access_key(old.access_key_id)
    daemon = vm.daemon().ready()

    eventually(lambda: shown(vm)["restricted"] == [old.access_key_id])
    assert f"{old.access_key_id} is restricted as leaked" in vm.keyturn("status").stdout
    figures = Figures(get(port, "/metrics").body)
    assert figures.get("keyturn_key_restricted", credential="uploader") == 1
    eventually(lambda: any("restricted as leaked: uploader" in text for _at, text in daemon.listener.messages))

    vm.cloud.rotate("uploader-ak")
    vm.cloud.set_status(old.access_key_id, "Inactive")
    new = vm.cloud.current_key("uploader-ak")
    eventually(lambda: vm.holds(new.access_key_id))
    eventually(lambda: {look["access_key_id"] for look in shown(vm)["looks"]} == {new.access_key_id})
    assert shown(vm)["restricted"] == []
    figures = Figures(get(port, "/metrics").body)
    assert figures.get("keyturn_canary_total", credential="uploader", outcome="refused") == 1
    assert (figures.get("keyturn_canary_total", credential="uploader", outcome="accepted") or 0) >= 2
    assert figures.get("keyturn_key_restricted", credential="uploader") == 0
    assert daemon.stop() == 0

    told = vm.audit("verify_failed", "key_restricted")
    assert {record["event"] for record in told} == {"verify_failed", "key_restricted"}
    assert {record["access_key_id"] for record in told} == {old.access_key_id}
    assert [record["outcome"] for record in vm.audit("recovered")] == ["from key_restricted"]
    published = vm.audit("published")[-1]
    assert published["trigger"] == "poll" and old.access_key_id in published["reason"]
    assert vm.keyturn("audit", "verify").returncode == 0
    everything = daemon.log + json.dumps(vm.audit()) + "".join(text for _at, text in daemon.listener.messages)
    assert old.access_key_secret not in everything and new.access_key_secret not in everything


def test_check_says_that_a_canary_is_blind(vm: Vm) -> None:
    """A template cannot be read back; with a file that can, or where it is served, there is something to sign with."""
    (vm.directory / "template").write_text("{{ access_key_id }}")
    template = (
        f'[[credentials.uploader.sinks]]\ntype = "template"\n'
        f'path = "{vm.app}/out"\nsource = "{vm.directory}/template"\n'
    )
    blind = ("warning", "credentials.uploader.canary")
    for sinks, expected in ((template, True), (template + vm.ini(), False)):
        vm.configure(vm.credential(settings="canary = true", sinks=sinks))
        found = json.loads(vm.keyturn("check", "--offline", "--json").stdout)["findings"]
        assert (blind in [(one["level"], one["place"]) for one in found]) is expected

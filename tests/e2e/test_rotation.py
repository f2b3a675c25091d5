"""The main job, with real processes: a rotation reaches every sink and every dependent, and the audit tells it."""

from __future__ import annotations

import hashlib
import json
import re
import signal
import socket
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from agent import __version__
from agent.core.timestamps import rfc3339
from providers.emulator.faults import Fault
from providers.emulator.model import AccessKey
from tests.support.vm import PATIENCE_S, Vm, eventually

REQUEST_ID = re.compile(r"[0-9A-Za-z-]{8,64}")


def appender(path: Path) -> list[object]:
    """A hook that adds its standard input to a file."""
    return ["/bin/sh", "-c", f"cat >> {path}"]


def told(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_a_rotation_is_picked_up_by_polling_and_reaches_sinks_dependents_and_audit(vm: Vm) -> None:
    """Both sinks show one generation, a process gets its signal, a hook its JSON, and the audit has it in order."""
    heard, pid_file, hook_log = vm.directory / "heard", vm.directory / "app.pid", vm.directory / "hook.jsonl"
    script = f'trap "echo told >> {heard}" HUP; echo $$ > {pid_file}; while :; do sleep 1 & wait $!; done'
    dependent = subprocess.Popen(["/bin/sh", "-c", script])
    try:
        eventually(lambda: pid_file.exists() and pid_file.read_text().strip())
        signalled = f'[[credentials.uploader.notify]]\ntype = "signal"\npid_file = "{pid_file}"\n'
        vm.configure(vm.credential(poll="1s", notify=signalled + vm.hook(appender(hook_log))))
        daemon = vm.daemon().ready()
        first = vm.cloud.current_key("uploader-ak").access_key_id
        assert vm.holds(first)
        eventually(lambda: len(told(hook_log)) == 1 and heard.exists())
        second = vm.cloud.rotate("uploader-ak")
        eventually(lambda: vm.events().count("notified") == 4, str(vm.events()))
        assert vm.holds(second.access_key_id)
        assert second.access_key_secret in vm.ini_path().read_text()
        assert second.access_key_secret in vm.env_path().read_text()
        assert first not in vm.ini_path().read_text() + vm.env_path().read_text()
        eventually(lambda: len(heard.read_text().splitlines()) == 2)  # the shell takes its signal when it comes to it
        event = told(hook_log)[1]
        assert (event["event"], event["generation"], event["trigger"]) == ("published", 2, "poll")
        assert event["access_key_id"] == second.access_key_id
        assert len(event["sinks"]) == 2  # type: ignore[arg-type]
        assert vm.events() == ["credential_fetched", "verified", "published", "notified", "notified"] * 2
        _tells_where_it_comes_from(vm, second)
        assert daemon.stop() == 0
        assert vm.keyturn("audit", "verify").returncode == 0
    finally:
        dependent.kill()
        dependent.wait(PATIENCE_S)


def _tells_where_it_comes_from(vm: Vm, key: AccessKey) -> None:
    """Every record names the host; what the cloud said, its request; a publish, the key's birth and what published it."""
    records = vm.audit()
    assert {record["host"] for record in records} == {socket.gethostname()}
    fetched, verified, published = (vm.audit(event)[-1] for event in ("credential_fetched", "verified", "published"))
    assert REQUEST_ID.fullmatch(fetched["request_id"]) and REQUEST_ID.fullmatch(verified["request_id"])
    assert verified["identity"] == f"acs:ram::{vm.cloud.account_id}:user/uploader"
    assert published["created_at"] == rfc3339(datetime.fromtimestamp(key.created_at, UTC))
    digest = hashlib.sha256(vm.config.read_bytes()).hexdigest()[:16]
    for record in (published, *vm.audit("agent_started")):
        assert (record["agent_version"], record["config"]) == (__version__, f"sha256:{digest}")
    assert "config" not in fetched


def test_a_sink_changed_or_removed_by_somebody_else_is_put_right(vm: Vm) -> None:
    """Drift is repaired at the next pass under the same generation, audited as drift, and the dependents are told."""
    hook_log = vm.directory / "hook.jsonl"
    vm.configure(vm.credential(notify=vm.hook(appender(hook_log))))
    daemon = vm.daemon().ready()
    good = vm.ini_path().read_text()
    eventually(lambda: vm.events().count("notified") == 1)
    vm.ini_path().write_text(good.replace("LTAI5t", "STOLEN"))
    daemon.signal(signal.SIGUSR1)
    eventually(lambda: vm.ini_path().read_text() == good)
    eventually(lambda: vm.events().count("notified") == 2)
    vm.env_path().unlink()
    daemon.signal(signal.SIGUSR1)
    eventually(lambda: vm.env_path().exists())
    eventually(lambda: vm.events().count("notified") == 3)
    repairs = vm.audit("drift_repaired")
    assert [[Path(sink.split(" ")[0]).name for sink in record["sinks"]] for record in repairs] == [
        ["uploader.ini"],
        ["uploader.env"],
    ]
    assert {record["generation"] for record in repairs} == {1}
    assert {record["trigger"] for record in repairs} == {"drift"}
    assert [event["trigger"] for event in told(hook_log)] == ["start", "drift", "drift"]


def test_a_source_that_hangs_holds_up_no_other_credential(vm: Vm) -> None:
    """While one secret's endpoint swallows every call, another credential's rotation is published all the same."""
    slow_cloud, slow_server = vm.add_cloud()
    slow_cloud.add_ram_secret("slow-ak", user="slow")
    vm.configure(
        vm.credential(poll="1s")
        + vm.credential("slow", secret="slow-ak", endpoint=slow_server.endpoint, poll="1s", settings='verify = "off"')
    )
    daemon = vm.daemon().ready()
    slow_cloud.inject(Fault.HANG, times=1000)
    eventually(lambda: any(call.fault == "hang" for call in slow_cloud.calls))
    newest = vm.cloud.rotate("uploader-ak")
    slow_cloud.rotate("slow-ak")
    eventually(lambda: vm.holds(newest.access_key_id))
    assert vm.events("slow").count("published") == 1
    assert vm.events("slow").count("fetch_failed") == 0, "the call hung for so long that this test proves nothing"
    assert daemon.process.poll() is None


def test_a_run_of_failures_is_one_record_and_its_end_another(vm: Vm) -> None:
    """Calls that are throttled one after another leave one fetch_failed and one recovered; files stay as they were."""
    vm.configure(vm.credential())
    daemon = vm.daemon().ready()
    before = vm.ini_path().read_text()

    def refresh(expected_calls: int) -> None:
        daemon.signal(signal.SIGUSR1)
        eventually(lambda: sum(call.action == "GetSecretValue" for call in vm.cloud.calls) >= expected_calls)

    vm.cloud.fail_next(429, times=3, action="GetSecretValue")
    for calls in (2, 3, 4):
        refresh(calls)
    assert "recovered" not in vm.events()
    refresh(5)
    eventually(lambda: "recovered" in vm.events())
    vm.cloud.fail_next(503, times=2, action="GetSecretValue")
    for calls in (6, 7, 8):
        refresh(calls)
    eventually(lambda: vm.events().count("recovered") == 2)
    assert vm.events()[3:] == ["fetch_failed", "recovered"] * 2
    first, second = vm.audit("fetch_failed")
    assert "Rejected.Throttling" in first["error"]
    assert "ServiceUnavailableTemporary" in second["error"]
    assert first["trigger"] == "signal"
    assert vm.audit("recovered")[0]["outcome"] == "after 3 failures"
    assert vm.ini_path().read_text() == before


def test_a_key_that_sts_refuses_is_not_published(vm: Vm) -> None:
    """A new key that STS refuses for longer than verify_timeout stays out of every file, and the old one stays in."""
    vm.configure(vm.credential(poll="1s", settings='verify_timeout = "1s"'))
    vm.daemon().ready()
    first = vm.cloud.current_key("uploader-ak").access_key_id
    vm.cloud.propagation_delay_s = 3600.0
    second = vm.cloud.rotate("uploader-ak").access_key_id
    record = eventually(lambda: vm.audit("verify_failed"))[0]
    assert second in record["error"]
    assert "not published" in record["error"]
    assert vm.holds(first)
    status = vm.status()["credentials"]["uploader"]
    assert (status["state"], status["generation"], status["access_key_id"]) == ("failing", 1, first)
    assert second in status["last_error"]
    assert "published" not in vm.events()[3:]


def test_when_sts_is_away_the_key_is_published_and_proved_later(vm: Vm) -> None:
    """An STS that cannot be asked delays nothing for good: published, audited as unproved, and proved when it is back."""
    vm.configure(vm.credential(poll="1s", settings='verify_timeout = "1s"'))
    vm.cloud.inject(Fault.RESET, times=10_000, action="GetCallerIdentity")
    vm.daemon().ready()
    assert vm.holds(vm.cloud.current_key("uploader-ak").access_key_id)
    assert vm.events()[:3] == ["credential_fetched", "verify_failed", "published"]
    assert vm.audit("verify_failed")[0]["outcome"] == "not verified"
    assert vm.status()["credentials"]["uploader"]["verified"] is False
    vm.cloud.faults.clear()
    eventually(lambda: vm.status()["credentials"]["uploader"]["verified"])
    assert vm.audit("published")[0]["generation"] == 1
    assert vm.events().count("published") == 1
    assert vm.events().count("verified") == 1, "the later proof is a step, so the audit has it"

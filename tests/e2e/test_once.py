"""`once`: one pass, with an exit code that cron, an image build or a container's entry point can act on."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from providers.emulator.faults import Fault
from tests.support.processes import KEYTURN
from tests.support.vm import Vm, eventually


def test_once_does_the_whole_job_and_says_so(vm: Vm) -> None:
    """0 after a publish and after an unchanged value; the second time no file is touched and nobody is told."""
    heard = vm.directory / "heard"
    vm.configure(vm.credential(notify=vm.hook(["/bin/sh", "-c", f"cat >> {heard}"])))
    key = vm.cloud.current_key("uploader-ak").access_key_id
    first = vm.keyturn_cold("once")
    assert (first.returncode, first.stderr) == (0, "")
    assert first.stdout.startswith(f"uploader: published, generation 1, {key}\n")
    assert vm.holds(key)
    before = (vm.ini_path().stat(), vm.env_path().stat())
    second = vm.keyturn_cold("once", "uploader")
    assert (second.returncode, second.stderr) == (0, "")
    assert second.stdout == f"uploader: unchanged, generation 1, {key}\n"
    assert (vm.ini_path().stat(), vm.env_path().stat()) == before
    assert len(heard.read_text().splitlines()) == 1
    assert vm.keyturn("audit", "verify").returncode == 0


def test_once_names_only_what_was_asked_for(vm: Vm) -> None:
    """A named credential alone is refreshed; a name that is not in the config is a usage error with the nearest one."""
    vm.cloud.add_ram_secret("other-ak", user="other")
    vm.configure(vm.credential() + vm.credential("other", secret="other-ak"))
    assert vm.keyturn("once", "other").returncode == 0
    assert not vm.ini_path().exists()
    done = vm.keyturn("once", "othr")
    assert done.returncode == 2
    assert "'othr'" in done.stderr
    assert "other" in done.stderr


def test_a_temporary_failure_is_retried(vm: Vm) -> None:
    """Calls that fail at first and then succeed within --retry-for end in 0, and nothing is printed as an error."""
    vm.configure(vm.credential())
    vm.cloud.fail_next(503, times=1, action="GetSecretValue")
    done = vm.keyturn("once", "--retry-for", "60s")
    assert (done.returncode, done.stderr) == (0, "")
    assert vm.events() == ["fetch_failed", "credential_fetched", "verified", "published", "recovered"]


def test_a_failing_notification_is_retried_too(vm: Vm) -> None:
    """A hook that fails once and then succeeds within --retry-for ends in 0."""
    gate = vm.directory / "gate"
    vm.configure(vm.credential(notify=vm.hook(["/bin/sh", "-c", f"test -e {gate} || {{ touch {gate}; exit 1; }}"])))
    done = vm.keyturn("once", "--retry-for", "60s")
    assert (done.returncode, done.stderr) == (0, "")
    assert vm.events()[-2:] == ["notify_failed", "notified"]


def spoil_permission(vm: Vm) -> None:
    vm.cloud.fail_next(403, "Forbidden.NoPermission", times=100)


def spoil_secret(vm: Vm) -> None:
    vm.configure(vm.credential(secret="no-such-secret"))


def spoil_key(vm: Vm) -> None:
    vm.cloud.fail_next(404, "InvalidAccessKeyId.NotFound", action="GetCallerIdentity", times=1000)


def spoil_hook(vm: Vm) -> None:
    vm.configure(vm.credential(notify=vm.hook(["/bin/false"])))


def spoil_source(vm: Vm) -> None:
    vm.configure(vm.credential(endpoint="127.0.0.1:1"))


def spoil_service(vm: Vm) -> None:
    vm.cloud.fail_next(503, times=1000)


FAILURES: dict[str, tuple[Callable[[Vm], None], int, str]] = {
    "the source cannot be reached": (spoil_source, 75, "127.0.0.1:1"),
    "the source cannot answer just now": (spoil_service, 75, "unavailable just now"),
    "the ClientKey has no permission": (spoil_permission, 77, "does not permit this call"),
    "there is no such secret": (spoil_secret, 1, "has no such secret"),
    "the new key is refused": (spoil_key, 1, "is not published"),
    "a dependent cannot be told": (spoil_hook, 1, "/bin/false"),
}


def test_each_failure_has_its_exit_code_and_one_sentence(make_vm: Callable[..., Vm]) -> None:
    """What went wrong can be told by the status; one sentence with a remedy; files that exist stay as they are."""

    def play(name: str) -> None:
        spoil, code, words = FAILURES[name]
        vm = make_vm(name.replace(" ", "-"))
        settings = 'verify_timeout = "1s"'
        vm.configure(vm.credential(settings=settings))
        spoil(vm)
        done = vm.keyturn("once", "--retry-for", "1s")
        assert done.returncode == code, (name, done)
        assert words in done.stderr + done.stdout, (name, done)
        if name != "a dependent cannot be told":
            assert len(done.stderr.splitlines()) == 1, (name, done)
            assert "; " in done.stderr, f"{name}: no remedy"
            assert not vm.ini_path().exists(), name

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(play, FAILURES))


def test_retry_for_is_a_bound(vm: Vm) -> None:
    """A source that stays away is given up on when the time is up, not at the end of a long back-off."""
    vm.configure(vm.credential())
    vm.cloud.fail_next(503, times=1000)
    assert vm.keyturn("once", "--retry-for", "2s").returncode == 75
    calls = [call.at for call in vm.cloud.calls]
    assert len(calls) >= 2, "it was tried again"
    assert calls[-1] - calls[0] < 20.0


CONFIGS = {
    "no config file": (None, "keyturn.toml"),
    "not TOML": ("[credentials", "keyturn.toml"),
    "an unknown key": ("[agent]\nsettel = '2s'\n", "settle"),
    "no credential": ("[agent]\n", "credential"),
    "an unknown owner": ("owner = 'nobody-of-this-name'", "nobody-of-this-name"),
    "an unset variable": ("${KEYTURN_TEST_UNSET}", "KEYTURN_TEST_UNSET"),
    "a provider that does not exist": ('type = "kms_secrets"', "kms_secret"),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_bad_config_is_78_and_names_the_place(vm: Vm, name: str) -> None:
    """Whatever is wrong with the config: status 78, a sentence that names it, and nothing is written anywhere."""
    text, word = CONFIGS[name]
    if name == "an unknown owner":
        vm.configure(vm.credential(sinks=vm.ini(extra=str(text))))
    elif name == "an unset variable":
        vm.configure(vm.credential().replace(str(vm.app), f"{text}/app"))
    elif name == "a provider that does not exist":
        vm.configure(vm.credential().replace('type = "kms_secret"', str(text)))
    elif text is not None:
        vm.configure("[agent]\n" + text if "[agent]" not in text else text)
    done = vm.keyturn("once")
    assert done.returncode == 78, done
    assert word in done.stderr
    assert str(vm.config) in done.stderr or "keyturn.toml" in done.stderr
    assert done.stdout == ""
    assert not vm.state.exists()


def test_refresh_goes_through_the_daemon_and_without_one_does_the_work_itself(vm: Vm) -> None:
    """`refresh` waits for the outcome and prints it either way; the audit names who asked."""
    vm.configure(vm.credential())
    alone = vm.keyturn("refresh", "--json")
    assert alone.returncode == 0, alone
    assert json.loads(alone.stdout)["credentials"][0]["outcome"] == "published"
    vm.daemon().ready()
    newest = vm.cloud.rotate("uploader-ak").access_key_id
    done = vm.keyturn("refresh", "uploader")
    assert done.returncode == 0, done
    assert f"published, generation 2, {newest}" in done.stdout
    assert vm.holds(newest)
    fetched = vm.audit("credential_fetched")
    assert [record["trigger"] for record in fetched] == ["operator", "operator"]
    assert all(set(record["actor"]) == {"uid", "user", "pid"} for record in fetched)
    assert vm.keyturn("refresh", "nobody").returncode == 2
    vm.cloud.fail_next(503, times=10)
    failed = vm.keyturn("refresh", "--json")
    assert failed.returncode == 75
    assert "unavailable" in json.loads(failed.stdout)["credentials"][0]["error"]


def test_who_asks_while_a_fetch_is_under_way_gets_the_next(vm: Vm) -> None:
    """A rotation just before the request is in its outcome, although an older fetch was still on its way."""
    vm.configure(vm.credential())
    vm.daemon().ready()
    vm.server.drip_interval_s = 0.001  # a second and more for a reply
    vm.cloud.inject(Fault.DRIP, times=1, action="GetSecretValue")
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(vm.keyturn, "refresh")
        eventually(lambda: sum(call.action == "GetSecretValue" for call in vm.cloud.calls) == 2)
        newest = vm.cloud.rotate("uploader-ak").access_key_id
        second = vm.keyturn("refresh")
        assert f"generation 2, {newest}" in second.stdout
        assert first.result().returncode == second.returncode == 0


def in_a_unit(vm: Vm, *words: str) -> tuple[int, list[str]]:
    """Run a command as a unit does, whose output leads to the journal: its exit code, and the lines that went there."""
    path = vm.directory / "journalled"
    with path.open("w+") as out:
        found = os.fstat(out.fileno())
        environ = {**vm.environ, "JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}
        command = [*KEYTURN, "--config", str(vm.config), *words]
        done = subprocess.run(command, env=environ, stdout=out, stderr=out, timeout=60, check=False)
    return done.returncode, path.read_text().splitlines()


def test_in_a_unit_it_logs_as_the_daemon_does(vm: Vm) -> None:
    """Under the journal each event is one line with its priority and its credential, and nothing is said a second time."""
    plain = vm.agent('log_format = "plain"')
    vm.configure(plain, vm.credential(endpoint="127.0.0.1:1"))
    code, lines = in_a_unit(vm, "once", "--retry-for", "0s")
    assert (code, len(lines)) == (75, 1), lines
    assert lines[0].startswith("<3>fetch failed credential=uploader error=")
    vm.configure(plain, vm.credential())
    code, lines = in_a_unit(vm, "once")
    assert code == 0
    assert [line.split(" ")[0] for line in lines] == ["<6>published", "<6>recovered"]
    assert all(" credential=uploader" in line for line in lines)


@pytest.mark.parametrize("command", ["run", "once"])
def test_in_a_unit_a_config_that_cannot_be_used_is_an_error(vm: Vm, command: str) -> None:
    """Under the journal an invalid config, and one that is not there, are lines of priority 3; on a terminal nothing changes."""
    vm.configure(vm.credential().replace("poll_interval", "pol_interval"))
    code, lines = in_a_unit(vm, command)
    assert code == 78
    assert lines and all(line.startswith("<3>") for line in lines), lines
    assert lines[0].removeprefix("<3>") == vm.keyturn(command).stderr.splitlines()[0]
    vm.config.unlink()
    code, (line,) = in_a_unit(vm, command)
    assert code != 0 and line.startswith("<3>")

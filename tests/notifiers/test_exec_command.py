"""`exec` runs the operator's command with the event and nothing else."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from agent.core.errors import CancelledError, NotifyError
from agent.core.events import PublishEvent
from agent.core.settings import Duration
from agent.notifiers.exec_command import ExecNotifier, ExecSettings
from agent.notifiers.interface import HookFailedError


def notifier(*command: str, timeout_s: float = 60, user: str | None = None) -> ExecNotifier:
    """Make one as the config would."""
    return ExecNotifier(ExecSettings(type="exec", command=command, timeout=Duration(timeout_s), user=user))


def hook(path: Path, text: str = "#!/bin/sh\nexit 0\n", mode: int = 0o755) -> Path:
    """Write a hook."""
    path.write_text(text)
    path.chmod(mode)
    return path


def test_the_event_arrives_as_json_on_standard_input(
    event: PublishEvent, cancel: threading.Event, tmp_path: Path
) -> None:
    """One JSON object with every field of the contract, and no secret to begin with."""
    notifier("/bin/sh", "-c", 'cat >"$1"', "sh", str(tmp_path / "got")).tell(event, cancel)
    assert json.loads((tmp_path / "got").read_text()) == {
        "event": "published",
        "credential": "uploader",
        "generation": 7,
        "trigger": "poll",
        "access_key_id": "LTAI5tExample",
        "version_id": "v-7",
        "expiration": "2026-11-22T12:00:00Z",
        "sinks": ["/etc/uploader/credentials.ini#default", "/run/uploader/aliyun.env"],
    }


def test_the_event_arrives_in_the_environment_too(event: PublishEvent, cancel: threading.Event) -> None:
    """KEYTURN_* for shell scripts; the sinks one a line."""
    told = notifier("/bin/sh", "-c", 'echo "$KEYTURN_CREDENTIAL $KEYTURN_GENERATION"; echo "$KEYTURN_SINKS"')
    detail = told.tell(event, cancel).detail
    assert detail == "status 0: uploader 7 | /etc/uploader/credentials.ini#default | /run/uploader/aliyun.env"


def test_the_agents_own_secrets_stay_its_own(
    event: PublishEvent, cancel: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A password in the agent's environment is not in the hook's."""
    monkeypatch.setenv("CLIENT_KEY_PASSWORD", "canary-for-hooks")
    detail = notifier("env").tell(event, cancel).detail
    assert "KEYTURN_EVENT=published" in detail
    assert "canary" not in detail


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_hook_runs_as_the_user_of_the_config(event: PublishEvent, cancel: threading.Event) -> None:
    """`user` is who the hook is."""
    assert notifier("id", "-un", user="nobody").tell(event, cancel).detail == "status 0: nobody"


def failed(one: ExecNotifier, event: PublishEvent, cancel: threading.Event) -> HookFailedError:
    with pytest.raises(HookFailedError) as caught:
        one.tell(event, cancel)
    return caught.value


def test_a_failing_hook_says_how_and_keeps_its_last_words_for_the_log(
    event: PublishEvent, cancel: threading.Event
) -> None:
    """The error names the program and the status; the bounded end of the output goes with it, for the log."""
    script = "head -c 100000 /dev/zero | tr '\\0' x; echo; echo no such service >&2; exit 9"
    error = failed(notifier("/bin/sh", "-c", script), event, cancel)
    assert error.problem == "/bin/sh: the command ended with status 9"
    assert error.remedy
    assert error.output.endswith("no such service")
    assert len(error.output) < 10_000


def test_what_a_hook_prints_is_not_in_its_error(event: PublishEvent, cancel: threading.Event) -> None:
    """The error's text goes into the audit, the state and `status`: a hook that prints a secret does not get it there."""
    for script in (
        "echo canary; echo canary >&2; exit 1",
        "echo canary; kill -SEGV $$",
        "echo canary; exec sleep 1000",
    ):
        error = failed(notifier("/bin/sh", "-c", script, timeout_s=1), event, cancel)
        assert "canary" in error.output, script
        assert "canary" not in str(error) + repr(error), script


def test_no_half_of_a_word_is_left_where_the_output_was_cut(event: PublishEvent, cancel: threading.Event) -> None:
    """The log masks whole secrets only, so one that the bound cut through is dropped whole."""
    script = "printf canary-of-24-characters; head -c 8180 /dev/zero | tr '\\0' ' '; printf end; exit 1"
    assert failed(notifier("/bin/sh", "-c", script), event, cancel).output == "end"


def test_a_hook_that_dies_by_a_signal_says_which(event: PublishEvent, cancel: threading.Event) -> None:
    """A crash is told from a failure."""
    with pytest.raises(NotifyError, match="was ended by SIGSEGV"):
        notifier("/bin/sh", "-c", "kill -SEGV $$").tell(event, cancel)


def test_a_hanging_hook_is_stopped_and_said_to_be(event: PublishEvent, cancel: threading.Event) -> None:
    """The remedy names `timeout`."""
    with pytest.raises(NotifyError, match="did not end in time") as caught:
        notifier("/bin/sleep", "1000", timeout_s=0.3).tell(event, cancel)
    assert "timeout" in caught.value.remedy


def test_what_a_hook_left_running_is_stopped_and_said_to_be(event: PublishEvent, cancel: threading.Event) -> None:
    """A hook that ended well was told, even if its children held its output until the limit."""
    detail = notifier("/bin/sh", "-c", "sleep 1000 & echo fine", timeout_s=2).tell(event, cancel).detail
    assert detail == "status 0; what it left running was stopped: fine"


def test_a_missing_or_unfit_program_is_a_notify_error(
    event: PublishEvent, cancel: threading.Event, tmp_path: Path
) -> None:
    """What cannot be started is an error of this dependent, with its remedy."""
    for program in ("/nonexistent/hook", "keyturn-no-such-program", str(hook(tmp_path / "plain", mode=0o644))):
        with pytest.raises(NotifyError, match=program) as caught:
            notifier(program).tell(event, cancel)
        assert caught.value.remedy


def test_a_stopping_agent_is_not_held_up(event: PublishEvent) -> None:
    """With cancel set the hook is not run, and stays owed."""
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(CancelledError, match="agent is stopping"):
        notifier("/bin/sleep", "1000").tell(event, cancel)


def test_check_finds_what_is_wrong_with_a_hook(tmp_path: Path) -> None:
    """Absent, not executable, open to everybody, in a directory open to everybody: each an error with a remedy."""
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    cases = {
        str(tmp_path / "absent"): "No such file",
        str(hook(tmp_path / "plain", mode=0o644)): "may not execute",
        str(hook(tmp_path / "loose", mode=0o757)): "lets others than its owner change it",
        str(hook(tmp_path / "open" / "hook")): "everybody can replace",
        str(tmp_path / "open"): "not a regular file",
        "keyturn-no-such-program": "there is no program",
    }
    for program, text in cases.items():
        found = next(finding for finding in notifier(program).inspect() if text in finding.text)
        assert (found.level, bool(found.remedy)) == ("error", True), program


def test_check_is_content_with_a_good_hook(tmp_path: Path) -> None:
    """Nothing is run, and the line is ok."""
    good = hook(tmp_path / "good", f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    assert [finding.level for finding in notifier(str(good)).inspect()] == ["ok"]
    assert not (tmp_path / "ran").exists()


def refused(program: Path, event: PublishEvent, user: str | None = None) -> str:
    """Tell, expect a refusal with a remedy, and have `check` say the same; the hook would leave a file `ran`."""
    one = notifier(str(program), user=user)
    with pytest.raises(NotifyError) as caught:
        one.tell(event, threading.Event())
    assert not (program.parent / "ran").exists()
    (found,) = one.inspect()
    assert (found.level, found.text, found.remedy) == ("error", caught.value.problem, caught.value.remedy)
    assert found.remedy
    return found.text


RUNS = '#!/bin/sh\ntouch "$(dirname "$0")/ran"\n'


@pytest.mark.parametrize("mode", [0o757, 0o775])
def test_a_hook_that_others_can_write_is_not_run(event: PublishEvent, tmp_path: Path, mode: int) -> None:
    """Everybody, or a group, would decide what root does; `check` may have been run long ago."""
    assert "lets others than its owner change it" in refused(hook(tmp_path / "loose", RUNS, mode), event)
    (tmp_path / "link").symlink_to("loose")
    assert "lets others than its owner change it" in refused(tmp_path / "link", event)


def test_a_hook_that_everybody_can_replace_is_not_run(event: PublishEvent, tmp_path: Path) -> None:
    """The file is in order and its name is anybody's; in a sticky directory such as /tmp it is not."""
    path = hook(tmp_path / "hook", RUNS)
    tmp_path.chmod(0o777)
    assert "everybody can replace it" in refused(path, event)
    tmp_path.chmod(0o1777)
    notifier(str(path)).tell(event, threading.Event())
    assert (tmp_path / "ran").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_hook_that_a_stranger_owns_is_not_run(event: PublishEvent, public_path: Path) -> None:
    """Its owner decides what root runs, and may decide what runs as themselves."""
    path = hook(public_path / "theirs", "#!/bin/sh\nid -un\n")
    os.chown(path, 65534, 65534)
    assert "decides what root runs" in refused(path, event)
    assert notifier(str(path), user="nobody").tell(event, threading.Event()).detail == "status 0: nobody"


def test_impossible_settings_are_found_before_anything_runs() -> None:
    """No program, a relative path, a zero byte, an unknown user: each has its key."""
    cases: list[tuple[str, tuple[str, ...], str | None]] = [
        ("command", (), None),
        ("command", ("",), None),
        ("command", ("hooks/reload",), None),
        ("command", ("/bin/echo", "a\0b"), None),
        ("user", ("/bin/echo",), "keyturn-nobody-at-all"),
    ]
    for key, command, user in cases:
        problems = list(ExecSettings(type="exec", command=command, user=user).problems())
        assert [name for name, _ in problems] == [key]
    assert not list(ExecSettings(type="exec", command=("nginx", "-s", "reload")).problems())


def test_the_same_command_is_the_same_dependent() -> None:
    """Arguments and user belong to the identity; the target for people shows the program only."""
    assert notifier("/bin/a", "x").identity == notifier("/bin/a", "x").identity
    assert notifier("/bin/a", "x").identity != notifier("/bin/a", "y").identity
    assert notifier("/bin/a").identity != notifier("/bin/a", user="root").identity
    assert notifier("/bin/a", "x").target == "/bin/a"

"""A command that prints a credential: real processes, what is accepted, refused, and never shown."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.core.credential import Credential, Kind
from agent.core.errors import BadAnswerError, CancelledError, CredentialFileError, KeyturnError, SourceUnavailableError
from agent.core.provider import ProviderContext
from agent.core.secret import Secret
from agent.core.settings import Duration
from agent.system.process import CommandError
from agent.system.procfs import group_is_empty
from providers.process import Process, ProcessSettings

SESSION = {
    "mode": "StsToken", "access_key_id": "STS.x", "access_key_secret": "CanarySecret",
    "sts_token": "CanaryToken", "expiration": "2099-01-01T00:00:00Z",
}  # fmt: skip
KEY = {"mode": "AK", "access_key_id": "LTAIx", "access_key_secret": "CanarySecret"}


class Commands:
    """Makes scripts, and providers that run them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def script(self, body: str) -> str:
        path = self.directory / "give"
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
        return str(path)

    def provider(self, *command: str, timeout_s: float = 30.0, **environ: str) -> Process:
        settings = ProcessSettings(type="process", command=command, timeout=Duration(timeout_s))
        assert list(settings.problems()) == []
        return Process(settings, ProviderContext("uploader", environ=environ))

    def printing(self, answer: object) -> Process:
        (self.directory / "answer").write_text(answer if isinstance(answer, str) else json.dumps(answer))
        return self.provider(self.script(f"cat {self.directory}/answer"))


@pytest.fixture
def commands(tmp_path: Path) -> Commands:
    return Commands(tmp_path)


def fetch(provider: Process, timeout_s: float = 10.0) -> Credential:
    return provider.fetch(datetime.now(UTC), timeout_s)


def test_a_session(commands: Commands) -> None:
    """Mode StsToken gives all parts and the end."""
    found = fetch(commands.printing(SESSION))
    assert found == Credential(
        access_key_id="STS.x", access_key_secret=Secret("CanarySecret"), security_token=Secret("CanaryToken"),
        expiration=datetime(2099, 1, 1, tzinfo=UTC),
    )  # fmt: skip


def test_an_access_key(commands: Commands) -> None:
    """Mode AK gives a key without an end; an empty token is none."""
    for answer in (KEY, {**KEY, "sts_token": "", "expiration": ""}):
        found = fetch(commands.printing(answer))
        assert (found.kind, found.access_key_id, found.expiration) == (Kind.ACCESS_KEY, "LTAIx", None)


def test_a_session_whose_end_is_not_told(commands: Commands) -> None:
    """It is taken, and polled: the SDK runs the command for each call then."""
    assert fetch(commands.printing({**SESSION, "expiration": None})).expiration is None


REFUSED: dict[str, tuple[object, str]] = {
    "no JSON": ("CanarySecret", "not a JSON object"),
    "two objects": (json.dumps(KEY) * 2, "not a JSON object"),
    "nothing": ("", "not a JSON object"),
    "no mode": ({**KEY, "mode": None}, "no mode"),
    "a mode that asks for a chain": ({**KEY, "mode": "RamRoleArn"}, "no mode"),
    "a mode that is a list": ({**KEY, "mode": ["AK"]}, "no mode"),
    "a session without a token": ({**SESSION, "sts_token": ""}, "StsToken without an sts_token"),
    "a key with a token": ({**KEY, "sts_token": "CanaryToken"}, "AK with an sts_token"),
    "no secret": ({**KEY, "access_key_secret": None}, "no access_key_secret"),
    "a number for an end": ({**SESSION, "expiration": 4070908800}, "expiration that is not a text"),
    "a date for an end": ({**SESSION, "expiration": "2099-01-01"}, "expiration that is not a time"),
    "an end that is over": ({**SESSION, "expiration": "2001-01-01T00:00:00Z"}, "already expired"),
    "a page": ({**KEY, "access_key_secret": "Canary" * 12_000}, "65536 bytes or more"),
}


@pytest.mark.parametrize("story", REFUSED)
def test_what_is_refused(commands: Commands, story: str, shown: Callable[[BaseException], str]) -> None:
    """What is wrong is named; nothing of what was printed is shown."""
    answer, words = REFUSED[story]
    with pytest.raises(BadAnswerError, match=words) as caught:
        fetch(commands.printing(answer))
    assert "Canary" not in shown(caught.value)
    assert str(caught.value).startswith("credentials.uploader: ")


def test_what_it_writes_to_standard_error_is_not_shown(
    commands: Commands, shown: Callable[[BaseException], str], caplog: pytest.LogCaptureFixture
) -> None:
    """A failure tells the status and how much was written, and how to see it; not what."""
    caplog.set_level(0)
    provider = commands.provider(commands.script("echo CanaryToken >&2; echo CanarySecret; exit 3"))
    with pytest.raises(SourceUnavailableError, match=r"give ended with status 3; it wrote 12 bytes") as caught:
        fetch(provider)
    assert "by hand" in caught.value.remedy
    assert "Canary" not in shown(caught.value) + caplog.text


def test_talk_on_standard_error_is_no_failure(commands: Commands) -> None:
    """However much it writes there, what counts is standard output and the status."""
    line = json.dumps(KEY)
    script = f"head -c 200000 /dev/zero >&2; echo '{line}'"
    assert fetch(commands.provider(commands.script(script))).access_key_id == "LTAIx"


def test_a_command_that_hangs_is_ended(commands: Commands) -> None:
    """The shorter of `timeout` and the fetch's own time counts, and children that hold the output end as well."""
    script = commands.script(f"echo $$ > {commands.directory}/pid; sleep 300 & sleep 300")
    for provider, timeout_s in ((commands.provider(script, timeout_s=1.0), 60.0), (commands.provider(script), 1.0)):
        began = time.monotonic()
        with pytest.raises(SourceUnavailableError, match="did not end in time"):
            fetch(provider, timeout_s)
        assert time.monotonic() - began < 20.0
        group = int((commands.directory / "pid").read_text())
        assert group_is_empty(group)


def test_closing_ends_a_command_that_runs(commands: Commands) -> None:
    """An agent that stops does not wait for it."""
    provider = commands.provider(commands.script(f"touch {commands.directory}/runs; sleep 300"))

    def close_when_it_runs() -> None:
        while not (commands.directory / "runs").exists():
            time.sleep(0.01)
        provider.close()

    threading.Thread(target=close_when_it_runs, daemon=True).start()
    with pytest.raises(CancelledError):
        fetch(provider, 60.0)


def test_the_environment_is_clean(commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    """It gets HOME, PATH and so on, CREDENTIALS_DIRECTORY, and no key of the agent's environment."""
    monkeypatch.setenv("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "Canary")
    environ = {"ALIBABA_CLOUD_ACCESS_KEY_SECRET": "Canary", "CREDENTIALS_DIRECTORY": "/run/credentials/x"}
    script = commands.script(f"env > {commands.directory}/env; echo '{json.dumps(KEY)}'")
    fetch(commands.provider(script, **environ))
    lines = (commands.directory / "env").read_text()
    assert "CREDENTIALS_DIRECTORY=/run/credentials/x\n" in lines
    assert "Canary" not in lines


def test_there_is_no_shell(commands: Commands) -> None:
    """Arguments reach the program as they are."""
    script = commands.script(f'printf "%s\\n" "$@" > {commands.directory}/args; echo \'{json.dumps(KEY)}\'')
    fetch(commands.provider(script, "a b", "$HOME", "; touch x"))
    assert (commands.directory / "args").read_text() == "a b\n$HOME\n; touch x\n"


@pytest.mark.parametrize("mode", [0o775, 0o757])
def test_a_program_that_others_can_write_is_not_run(commands: Commands, mode: int) -> None:
    """It would run with the agent's rights; `check` says so with the same remedy."""
    script = commands.script(f"touch {commands.directory}/ran; echo '{json.dumps(KEY)}'")
    Path(script).chmod(mode)
    with pytest.raises(CredentialFileError, match=r"credentials\.uploader: .*lets others") as caught:
        fetch(commands.provider(script))
    assert "chmod go-w" in caught.value.remedy
    assert not (commands.directory / "ran").exists()
    [finding] = commands.provider(script).inspect()
    assert (finding.level, finding.remedy) == ("error", caught.value.remedy)


def test_a_link_is_followed_to_the_program_that_counts(commands: Commands) -> None:
    """/etc/alternatives and pyenv work by links; what others can write is looked for at their end."""
    script = commands.script(f"echo '{json.dumps(KEY)}'")
    link = commands.directory / "link"
    link.symlink_to(script)
    fetch(commands.provider(str(link)))
    Path(script).chmod(0o777)
    with pytest.raises(CredentialFileError, match="lets others"):
        fetch(commands.provider(str(link)))


def test_a_script_among_the_arguments_is_warned_of(commands: Commands) -> None:
    """`["/bin/sh", "/path/script"]` hides the file that matters; `check` looks there too."""
    script = commands.script(f"echo '{json.dumps(KEY)}'")
    Path(script).chmod(0o777)
    provider = commands.provider("/bin/sh", script, "/nowhere", "word")
    assert [finding.level for finding in provider.inspect()] == ["ok", "warning"]


@pytest.mark.parametrize("program", ["/nowhere/give", "no-such-program-here"])
def test_a_missing_program_is_named(commands: Commands, program: str) -> None:
    """By a fetch and by `check`."""
    with pytest.raises(CredentialFileError, match=f"there is no program {program}"):
        fetch(commands.provider(program))
    assert [finding.level for finding in commands.provider(program).inspect()] == ["error"]


def test_what_cannot_be_started_is_named(commands: Commands) -> None:
    """A directory, a circle of links or a file without the right to execute."""
    circle = commands.directory / "circle"
    circle.symlink_to(circle)
    plain = commands.directory / "plain"
    plain.write_text("#!/bin/sh\n")
    for path in (commands.directory, circle, plain):
        with pytest.raises((CommandError, CredentialFileError)) as caught:
            fetch(commands.provider(str(path)))
        assert isinstance(caught.value, KeyturnError)
        assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("command", "timeout_s", "key"),
    [((), 30, "command"), (("",), 30, "command"), (("bin/give",), 30, "command"), (("x", "a\0b"), 30, "command"),
     (("x",), 0, "timeout"), (("x",), 31, "timeout")],
)  # fmt: skip
def test_settings_that_cannot_be(command: tuple[str, ...], timeout_s: float, key: str) -> None:
    """No program, a relative path, and times that no fetch has are problems of the config, under their key."""
    settings = ProcessSettings(type="process", command=command, timeout=Duration(timeout_s))
    assert [found for found, _ in settings.problems()] == [key]

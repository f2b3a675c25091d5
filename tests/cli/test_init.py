"""`keyturn init`: whatever is asked for, the config loads, and its comments name all that `check` finds still missing."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shlex
import signal
import stat
import subprocess
import time
from pathlib import Path

import pytest

from agent.app import check, wiring
from agent.cli.main import main
from agent.config import load
from agent.first_config.document import COMMAND, EMERGENCY_MARK, USER_MARK, config_text, fitting
from agent.first_config.readers import READERS
from agent.first_config.sources import SOURCES
from agent.first_config.wish import SERVICE_CONFIG, Account, Host, Wish
from providers import BUILT_IN
from tests.support.processes import KEYTURN, PATIENCE_S
from tests.support.vm import PASSWORD, Vm

EVERY_PAIR = [
    pytest.param(provider, reader, id=f"{provider}-{reader}") for provider in SOURCES for reader in fitting(provider)
]
PARTS = {"access_key_id": "LTAI5tExample", "access_key_secret": "secretsecretsecretsecretsecret"}


class Everybody:
    """Accounts of a machine where every user exists."""

    def uid_of(self, name: str) -> int:
        return 1000

    def gid_of(self, name: str) -> int:
        return 1000

    def names(self, kind: str) -> tuple[str, ...]:
        return ()


def written(provider: str, reader: str, path: Path, *more: str) -> str:
    """A config by `keyturn init`, with an example for whatever its provider has to be told."""
    pairs = [word for ask in SOURCES[provider].asks for word in ("--set", f"{ask.key}={ask.example}")]
    words = ["init", "--yes", "--provider", provider, "--for", reader, "--output", str(path), *pairs, *more]
    assert main(words) == 0
    return path.read_text()


def commands(text: str) -> list[str]:
    """The commands of a config's comments, without what stands before them."""
    return [line.removeprefix(COMMAND) for line in text.splitlines() if line.startswith(COMMAND)]


def findings(path: Path) -> list[tuple[str, str, str]]:
    """What `check --offline` says is wrong: level, place, text with its remedy."""
    settings = wiring.load_settings(str(path), os.environ)
    found = check.findings(settings, str(path), os.environ, offline=True)
    return [(one.level, one.place, f"{one.text}; {one.remedy}") for one in found if one.level in ("warning", "error")]


def test_every_provider_of_a_machine_is_offered() -> None:
    """All built-in types but the one that no machine has."""
    assert set(SOURCES) == set(BUILT_IN) - {"function_compute"}


@pytest.mark.parametrize(("provider", "reader"), EVERY_PAIR)
def test_every_pair_loads_and_names_what_is_missing(provider: str, reader: str, tmp_path: Path) -> None:
    """It loads as the daemon loads it, a shell can parse its commands, and each finding is about something that they name."""
    path = tmp_path / "keyturn.toml"
    unit = ("--unit", "there-is-no-such-unit") if provider == "kms_secret" else ()  # to ask systemd takes a while
    text = written(provider, reader, path, *unit)
    due = "\n".join(line for line in text.splitlines() if line.startswith("#"))
    shell = subprocess.run(["sh", "-n"], input="\n".join(commands(text)), text=True, capture_output=True, check=False)
    assert (shell.returncode, shell.stderr) == (0, "")
    for level, place, said in findings(path):
        about = re.findall(rf"{re.escape(str(tmp_path))}/[\w./-]+|[\w-]+\.service", said) or [place]
        told = any(one in due for one in about) or (place.endswith(".emergency") and EMERGENCY_MARK in text)
        asked_for = any(
            ask.example.split()[0] in said for ask in SOURCES[provider].asks
        )  # a file of the example's name
        assert told or asked_for or _is_of_this_checkout(said), (level, place, said)


def _is_of_this_checkout(said: str) -> bool:
    """A virtual environment that others cannot enter, as in a checkout of root's, is the host's affair."""
    return "install keyturn where everyone may run it" in said


def followed(text: str, downloads: Path) -> None:
    """Type the commands of a config as they stand, but those for systemd and keyturn; each secret is pasted."""
    for command in commands(text):
        if command.startswith(("systemctl", "mkdir -p /etc", "printf", "/", "keyturn")):
            continue
        part = next((part for part in PARTS if re.search(rf"{part}\b", command)), "access_key_secret")
        done = subprocess.run(
            ["sh", "-c", command], cwd=downloads, input=PARTS[part] + "\n", text=True, capture_output=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, ""), command


@pytest.mark.parametrize("provider", SOURCES)
def test_once_its_commands_were_typed_nothing_local_is_missing(provider: str, tmp_path: Path) -> None:
    """`check --offline` then has no error but about what the example's own names stand for, and no word of the emergency."""
    path, downloads = tmp_path / "home" / "keyturn.toml", tmp_path / "downloads"
    path.parent.mkdir()
    downloads.mkdir()
    for name in ("clientKey_KAAP.json", "clientKey_KAAP_Password.txt", "private_key.pem"):
        (downloads / name).write_text("x" * 16)
    text = written(provider, fitting(provider)[0], path)
    followed(text, downloads)
    examples = [ask.example.split()[0] for ask in SOURCES[provider].asks]
    left = [one for one in findings(path) if not any(example in one[2] for example in examples)]
    wrong_key = {"kms_secret": "client_key.json", "rsa_key_pair": "private_key.pem"}  # ours is no key
    assert [one for one in left if wrong_key.get(provider, "\0") not in one[2]] == []


def test_from_init_to_a_published_key(vm: Vm) -> None:
    """The config of `init`, its commands and a cloud: `check` is content, and `once` publishes what the application reads."""
    place, downloads = vm.directory / "new home", vm.directory / "downloads"
    place.mkdir()
    downloads.mkdir()
    (vm.directory / "clientKey.json").rename(downloads / "clientKey_KAAP.json")
    (downloads / "clientKey_KAAP_Password.txt").write_text(PASSWORD)
    path = place / "keyturn.toml"
    assert vm.keyturn("init", "--secret", "uploader-ak", "--output", str(path)).returncode == 0
    followed(path.read_text(), downloads)
    ends = "".join(
        f"{name}_endpoint = {json.dumps(vm.server.endpoint_of(name))}\n" for name in ("sts", "kms", "ram", "ims")
    )
    text = path.read_text().replace(
        "[cloud]\n", f"[cloud]\nca_file = {json.dumps(str(vm.directory / 'ca.pem'))}\n{ends}"
    )
    inline = 'regions = [{ region_id = "cn-hangzhou"'
    path.write_text(text.replace(inline, f"{inline}, endpoint = {json.dumps(vm.server.endpoint_of('kms'))}"))
    for name in PARTS:  # the authority's, which the emulator has under another key
        (place / f"operator_{name}").unlink()
    path.write_text(path.read_text().partition("[credentials.uploader.emergency.authority]")[0])
    checked = vm.keyturn("--config", str(path), "check", "--json")
    wrong = [one for one in json.loads(checked.stdout)["findings"] if one["level"] == "error"]
    assert (wrong, checked.returncode) == ([], 0)
    assert vm.keyturn("--config", str(path), "once").returncode == 0
    assert vm.cloud.current_key("uploader-ak").access_key_id in (place / "credentials.ini").read_text()


def test_a_properties_file_that_lies_there_is_used(tmp_path: Path) -> None:
    """Who has Alibaba's own file needs no other; it is not touched."""
    (tmp_path / "secretsmanager.properties").write_text("credentials_type=client_key\n")
    text = written("kms_secret", "env_file", tmp_path / "keyturn.toml")
    assert f'properties_file = "{tmp_path}/secretsmanager.properties"' in text
    assert "client_key_private_key_path" not in text and "clientKey_" not in text


@pytest.mark.parametrize("reader", READERS)
def test_the_services_config_gives_the_application_its_group(reader: str) -> None:
    """Files are keyturn's own and the application's to read; its lines wait for a user who is not there yet."""
    for exists in (True, False):
        wish = Wish(
            provider="kms_secret",
            values={"secret_name": "a-ak"},
            reader=reader,
            credential="a",
            user=Account("app", "app-group", "/srv/app", exists=exists),
            path=SERVICE_CONFIG,
        )
        text = config_text(wish, Host(agent="keyturn", has_service=True, exists=lambda _path: False))
        assert ("useradd" in text) is not exists and (USER_MARK in text) is not exists
        settings = load.parse(
            text.replace(USER_MARK, "").encode(), "it", wiring.registry(), environ={}, users=Everybody()
        )
        (credential,) = settings.credentials.values()
        (sink,) = credential.sinks
        assert (sink.group, sink.owner, sink.mode) == ("app-group", None, 0o640)
        assert (credential.serve is not None) == READERS[reader].asks
        directory = os.path.dirname(str(sink.path))
        assert f"install -d -o keyturn -g app-group -m 0750 {directory}" in commands(text)
        assert "keyturn systemd-setup --install" in commands(text)


@pytest.mark.parametrize("taken", ["a config", "a dangling link", "a directory"])
def test_it_never_overwrites(taken: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever has the name stays, and the sentence has a command to go on with."""
    path = tmp_path / "keyturn.toml"
    if taken == "a config":
        path.write_text("mine")
    elif taken == "a dangling link":
        path.symlink_to("nowhere")
    else:
        path.mkdir()
    before = os.lstat(path)
    assert main(["init", "--secret", "x", "--yes", "--output", str(path)]) == 1
    assert f"keyturn --config {path} check" in capsys.readouterr().err
    assert os.path.samestat(before, os.lstat(path)) and len(list(tmp_path.iterdir())) == 1
    assert taken != "a config" or path.read_text() == "mine"


def test_what_comes_between_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that appears while we were asking is not replaced either, and nothing is left beside it."""
    path = tmp_path / "keyturn.toml"
    monkeypatch.setattr("agent.cli.init._refuse", lambda taken, _given: Path(taken).write_text("theirs"))
    assert main(["init", "--secret", "x", "--yes", "--output", str(path)]) == 1
    assert [one.read_text() for one in tmp_path.iterdir()] == ["theirs"]


def test_it_is_private_and_whole(tmp_path: Path) -> None:
    """Mode 0600 whatever the umask."""
    before = os.umask(0)
    try:
        written("default", "json", tmp_path / "keyturn.toml")
    finally:
        os.umask(before)
    (only,) = tmp_path.iterdir()
    assert stat.S_IMODE(only.stat().st_mode) == 0o600


MISTAKES = {
    "no secret": ([], 2, "keyturn init --secret uploader-ak"),
    "a role without its ARN": (
        ["--provider", "ram_role_arn"],
        2,
        "--set role_arn=acs:ram::1234567890123456:role/reports",
    ),
    "a role that is no ARN": (["--provider", "ram_role_arn", "--set", "role_arn=reports"], 2, "role_arn"),
    "a secret for a role": (["--provider", "ecs_ram_role", "--secret", "x"], 2, "--secret"),
    "a token into a file of keys": (["--provider", "bearer", "--for", "json"], 2, "--for env_file"),
    "a key without its value": (["--secret", "x", "--set", "poll_interval"], 2, "KEY=VALUE"),
    "an unknown key": (["--secret", "x", "--set", "pol_interval=30s"], 2, "poll_interval"),
    "a type by --set": (["--set", "type=sts"], 2, "--provider sts"),
    "keyturn as its own dependent": (["--secret", "x", "--unit", "keyturn"], 2, "unit"),
    "a name that is none": (["--secret", "x", "--credential", "a b"], 2, "--credential a b"),
    "a user that is none": (["--secret", "x", "--user=-r"], 2, "--user"),
    "a line break": (["--secret", "x\ny"], 2, "line break"),
    "a directory that is not there": (
        ["--secret", "x", "--output", "/nonexistent/keyturn.toml"],
        1,
        "mkdir -p /nonexistent",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_gets_a_sentence_that_mends_it(
    mistake: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line that names the option and what to type; nothing is written."""
    words, code, told = MISTAKES[mistake]
    output = [] if "--output" in words else ["--output", str(tmp_path / "keyturn.toml")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdin", None)
        assert main(["init", *words, *output]) == code
    said = capsys.readouterr().err
    assert told in said and said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_who_may_not_write_there_is_told_before_a_question(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """77, and the same command with a place of one's own; a directory of strangers is refused as the daemon would refuse it."""
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    assert main(["init", "--secret", "x", "--output", str(shared / "keyturn.toml")]) == 1
    assert f"chmod go-w {shared}" in capsys.readouterr().err
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.access", lambda *_words, **_more: False)  # root may write everywhere
        assert main(["init", "--secret", "x y", "--output", str(tmp_path / "keyturn.toml")]) == 77
    assert "`keyturn init --secret 'x y' --output ~/keyturn.toml`" in capsys.readouterr().err
    assert list(shared.iterdir()) == []


class Terminal:
    """A `keyturn init` at a terminal."""

    def __init__(self, *options: str) -> None:
        self._ours, theirs = pty.openpty()
        self._process = subprocess.Popen(
            [*KEYTURN, "init", *options], stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip
        os.close(theirs)
        self.seen = ""

    def until(self, words: str) -> None:
        """Read up to these words."""
        deadline = time.monotonic() + PATIENCE_S
        while words not in self.seen:
            assert time.monotonic() < deadline, self.seen
            self.seen += self._read()
        self.seen = self.seen.partition(words)[2]

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def interrupt(self) -> None:
        os.kill(self._process.pid, signal.SIGINT)

    def end(self) -> int:
        """Read the rest, and return the exit code."""
        while rest := self._read():
            self.seen += rest
        os.close(self._ours)
        return self._process.wait(PATIENCE_S)

    def _read(self) -> str:
        ready, _, _ = select.select([self._ours], [], [], PATIENCE_S)
        assert ready, self.seen
        try:
            return os.read(self._ours, 4096).decode()
        except OSError:  # the other end was closed
            return ""


def test_it_asks_at_a_terminal(tmp_path: Path) -> None:
    """A few questions with defaults; a wrong answer is asked again; what the options said is not asked."""
    path = tmp_path / "keyturn.toml"
    terminal = Terminal("--output", str(path), "--for", "env_file")
    terminal.until("Where does the key come from? [kms_secret]: ")
    terminal.type("kms_secrt\n")
    terminal.until("did you mean kms_secret?")
    terminal.type("1\n")
    terminal.until("Name of the secret in KMS (such as uploader-ak): ")
    terminal.type("\n")
    terminal.until("Name of the secret in KMS (such as uploader-ak): ")
    terminal.type("backup-ak\n")
    terminal.until("systemd unit of the application (Enter: none): ")
    terminal.type("\n")
    terminal.until("Region [cn-hangzhou]: ")
    terminal.type("no region\n")
    terminal.until("region_id")  # what is wrong with it, and all is asked again with these answers as defaults
    terminal.until("[kms_secret]: ")
    terminal.type("\n")
    terminal.until("Name of the secret in KMS [backup-ak]: ")
    terminal.type("\n\n")
    terminal.until("Region [no region]: ")
    terminal.type("cn-beijing\n")
    assert terminal.end() == 0
    text = path.read_text()
    assert "[credentials.backup.provider]" in text and 'region_id = "cn-beijing"' in text


@pytest.mark.parametrize("way", ["Ctrl-C", "Ctrl-D"])
def test_who_gives_up_leaves_nothing(way: str, tmp_path: Path) -> None:
    """130 for an interrupt, as with every command; a sentence where the input ends."""
    terminal = Terminal("--output", str(tmp_path / "keyturn.toml"))
    terminal.until("[kms_secret]: ")
    terminal.interrupt() if way == "Ctrl-C" else terminal.type("\x04")
    assert terminal.end() == (130 if way == "Ctrl-C" else 2)
    assert list(tmp_path.iterdir()) == []


def test_a_config_on_standard_output_is_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--output -` is for a pipe: the config and nothing else, as it would be at the usual place."""
    monkeypatch.delenv("KEYTURN_CONFIG", raising=False)
    assert main(["init", "--secret", "acs/ram/user/app", "--yes", "--output", "-"]) == 0
    said = capsys.readouterr()
    settings = load.parse(said.out.encode(), "it", wiring.registry(), environ={}, users=Everybody())
    assert (list(settings.credentials), said.err) == (["app"], "")
    assert shlex.quote(SERVICE_CONFIG) in said.out

"""The emulator as a process of its own: it says when it is ready, serves, and ends on a signal."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

ROOT = Path(__file__).parents[3]
CALL = "import sys, pathlib; from providers.emulator.command import run; sys.exit(run(pathlib.Path(sys.argv[1]), {}))"
READY = re.compile(r"emulator ready on (https://127\.0\.0\.1:\d+), files in (.+)\n")


@pytest.fixture
def start() -> Iterator[Callable[..., tuple[subprocess.Popen[str], str]]]:
    """Starts emulators and waits for the line that says that they are ready."""
    processes: list[subprocess.Popen[str]] = []

    def start_one(directory: Path, options: str = "") -> tuple[subprocess.Popen[str], str]:
        process = subprocess.Popen(
            [sys.executable, "-c", CALL.format(f"out=sys.stdout, {options}"), str(directory)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        match = READY.fullmatch(line)
        assert match, line
        assert match[2] == str(directory)
        return process, match[1]

    yield start_one
    for process in processes:
        process.kill()
        process.communicate()


def rest(process: subprocess.Popen[str]) -> str:
    """Wait for the end of a process; return what it has said since the last look."""
    assert process.stdout is not None
    said = process.stdout.read()
    process.wait(30)
    return said


def admin(url: str, directory: Path, path: str) -> dict[str, object]:
    headers = {"X-Emulator-Token": (directory / "admin-token").read_text()}
    reply = requests.get(f"{url}/_emulator/{path}", headers=headers, verify=str(directory / "ca.pem"), timeout=30)
    answer: dict[str, object] = reply.json()
    return answer


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_a_signal_and_exits_with_zero(tmp_path: Path, start: Callable, number: int) -> None:  # type: ignore[type-arg]
    """Ready means ready: the first request after the line is answered. A signal ends it in order."""
    process, url = start(tmp_path / "world")
    assert admin(url, tmp_path / "world", "summary")["calls"] == 0
    process.send_signal(number)
    output = rest(process)
    assert process.returncode == 0
    assert output.count("  curl ") == 2, "what is said at the start, and nothing after it"


def test_it_serves_the_metadata_of_an_instance(tmp_path: Path, start: Callable) -> None:  # type: ignore[type-arg]
    """At the address that the directory names, from the line on that says ready; calls are in the same records."""
    directory = tmp_path / "world"
    _, url = start(directory)
    metadata = (directory / "providers" / "metadata_url.txt").read_text()
    assert requests.get(f"{metadata}/latest/meta-data/ram/security-credentials/", timeout=30).text == "app"
    uri = (directory / "providers" / "credentials_uri.txt").read_text()
    assert requests.get(uri, timeout=30).json()["Code"] == "Success"
    assert admin(url, directory, "summary")["by_action"] == {"MetadataRoleName": 1, "CredentialsUri": 1}


def test_it_starts_again_in_the_same_directory_and_on_the_same_port(
    tmp_path: Path,
    start: Callable,  # type: ignore[type-arg]
    port: int,
) -> None:
    """CA, ClientKey and, where wanted, the port stay; the config fits the new world."""
    directory = tmp_path / "world"
    process, url = start(directory, f"port={port}")
    kept = [(directory / name).read_bytes() for name in ("ca.pem", "clientKey.json")]
    process.terminate()
    process.communicate(timeout=30)
    _, again = start(directory, f"port={port}")
    assert again == url
    assert [(directory / name).read_bytes() for name in ("ca.pem", "clientKey.json")] == kept
    assert admin(url, directory, "summary")["calls"] == 0


def test_it_even_stops_while_an_answer_hangs(tmp_path: Path, start: Callable) -> None:  # type: ignore[type-arg]
    """A client that waits for ever does not keep the process alive."""
    directory = tmp_path / "world"
    process, url = start(directory)
    headers = {"X-Emulator-Token": (directory / "admin-token").read_text()}
    ca = str(directory / "ca.pem")
    order = {"fault": "hang", "action": "GetCallerIdentity"}
    requests.post(f"{url}/_emulator/fault", json=order, headers=headers, verify=ca, timeout=30).raise_for_status()
    with pytest.raises(requests.exceptions.ReadTimeout):
        requests.post(f"{url}/?Action=GetCallerIdentity", verify=ca, timeout=(30, 0.3))
    process.terminate()
    assert process.wait(timeout=30) == 0


def test_it_rotates_by_itself_when_asked_to(tmp_path: Path, start: Callable) -> None:  # type: ignore[type-arg]
    """With `rotate_every_s`, versions come without anybody's order; seen by the key that is current before an order."""
    directory = tmp_path / "world"
    _, url = start(directory, "rotate_every_s=0.01")
    headers = {"X-Emulator-Token": (directory / "admin-token").read_text()}

    def rotate() -> dict[str, str]:
        order = {"secret": "uploader-ak"}
        ca = str(directory / "ca.pem")
        reply: dict[str, str] = requests.post(
            f"{url}/_emulator/rotate", json=order, headers=headers, verify=ca, timeout=30
        ).json()
        return reply

    made = rotate()["access_key_id"]
    while True:  # each order says which key it replaced: ours, until the schedule came between
        answer = rotate()
        if answer["old_access_key_id"] != made:
            break
        made = answer["access_key_id"]


def test_a_config_that_was_edited_is_kept_and_goes_on_fitting(tmp_path: Path, start: Callable) -> None:  # type: ignore[type-arg]
    """Its text, the port that it names and the admin token stay, and it is said; an unedited one is the emulator's."""
    directory = tmp_path / "world"
    process, url = start(directory)
    config, examples = directory / "keyturn.toml", directory / "providers" / "keyturn.toml"
    edited, token = config.read_text() + "# mine\n", (directory / "admin-token").read_text()
    config.write_text(edited)
    process.terminate()
    process.communicate(timeout=30)
    before = examples.read_text()
    process, again = start(directory)
    assert (again, config.read_text(), (directory / "admin-token").read_text()) == (url, edited, token)
    assert examples.read_text() != before
    process.terminate()
    said = rest(process)
    assert f"{config} was edited, and is kept" in said and str(examples) not in said


def test_another_port_than_a_kept_config_names_is_said(tmp_path: Path, start: Callable, port: int) -> None:  # type: ignore[type-arg]
    """Nobody is left to wonder why the daemon finds no cloud."""
    directory = tmp_path / "world"
    directory.mkdir()
    (directory / "keyturn.toml").write_text('[cloud]\nkms_endpoint = "127.0.0.3:1"\n')
    process, _ = start(directory, f"port={port}")
    process.terminate()
    assert f"it names port 1, and the emulator is on {port}" in rest(process)


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_commands_that_it_prints_can_be_pasted(tmp_path: Path, start: Callable) -> None:  # type: ignore[type-arg]
    """Rotate, then restrict what is current now; the token is in no argument list."""
    directory = tmp_path / "a world"
    process, _ = start(directory)
    assert process.stdout is not None
    commands = [line for line in (process.stdout.readline() for _ in range(4)) if line.startswith("  curl ")]
    assert not any((directory / "admin-token").read_text() in command for command in commands)
    run = [subprocess.run(["sh", "-c", one], capture_output=True, check=True, timeout=30).stdout for one in commands]
    rotated, restricted = map(json.loads, run)
    assert rotated["access_key_id"] == restricted["access_key_id"] != rotated["old_access_key_id"]


def test_a_taken_port_is_one_sentence_of_the_command(tmp_path: Path, start: Callable) -> None:  # type: ignore[type-arg]
    """With the port, and what to do; also where it comes from the config of a directory that is in use."""
    directory = tmp_path / "one"
    _, url = start(directory)
    command = [sys.executable, "-m", "agent", "emulator", "--directory", str(directory)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (1, "", 1)
    assert url.removeprefix("https://") in ended.stderr and "--port" in ended.stderr


def test_a_taken_port_is_an_os_error(tmp_path: Path, start: Callable) -> None:  # type: ignore[type-arg]
    """The caller gets an OSError that it can put into words."""
    _, url = start(tmp_path / "one")
    port = url.rpartition(":")[2]
    code = CALL.format(f"out=sys.stdout, port={port}")
    ended = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "two")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert "Address already in use" in ended.stderr


def test_a_policy_is_attached_by_an_order(tmp_path: Path, start: Callable) -> None:  # type: ignore[type-arg]
    """From then on the user may do what the document allows; a document that is none is refused with 400."""
    directory = tmp_path / "world"
    _, url = start(directory)
    headers = {"X-Emulator-Token": (directory / "admin-token").read_text()}

    def attach(**order: object) -> int:
        ca = str(directory / "ca.pem")
        return requests.post(
            f"{url}/_emulator/attach_policy", json=order, headers=headers, verify=ca, timeout=30
        ).status_code

    document = {"Version": "1", "Statement": [{"Effect": "Allow", "Action": "kms:*", "Resource": "*"}]}
    key_id = json.loads((directory / "clientKey.json").read_text())["KeyId"]
    assert attach(user="ops", document=document) == 200
    assert attach(client_key=key_id, resources=["secret/uploader-ak"]) == 200
    assert attach(user="ops", document={**document, "Version": "2"}) == 400
    assert attach(user="nobody", document=document) == 404

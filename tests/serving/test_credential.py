"""`keyturn credential` as an application's SDK runs it: real daemons, real commands, real files."""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from alibabacloud_credentials.provider.external import ExternalCredentialsProvider

from agent.app import wiring
from agent.cli import command_line, credential, credential_from_files, entry, parsers
from agent.config.outline import RUNTIME_DIRECTORY
from agent.core.errors import KeyturnError
from agent.serving.document import Format
from agent.serving.server import SOCKET_NAME
from agent.systemd_setup import needs
from tests.support.processes import KEYTURN, PATIENCE_S, ROOT, eventually, in_child
from tests.support.sinks import session

STRANGER = 4242


def serve(hold="60s", who='users = ["root"]'):
    return f'[credentials.uploader.serve]\n{who}\nhold = "{hold}"\n'


def started(vm, *tables, **options):
    """A daemon with one credential, which is served."""
    vm.configure(vm.credential(notify=serve(), **options), *tables)
    return vm.daemon().ready()


def test_the_document_and_nothing_else(vm):
    """Each format on standard output, in one piece; `status` knows which process has it, and a file answers for the daemon."""
    daemon = started(vm)
    key = vm.cloud.current_key("uploader-ak")
    external = vm.keyturn_cold("credential", "uploader")  # a process of its own: who started it is who holds the answer
    said = {form: vm.keyturn("credential", "uploader", "--format", form) for form in ("ossfs", "uri", "env")}
    assert {(one.returncode, one.stderr) for one in [external, *said.values()]} == {(0, "")}
    assert json.loads(external.stdout)["access_key_secret"] == key.access_key_secret
    assert json.loads(said["ossfs"].stdout)["AccessKeyId"] == key.access_key_id
    assert json.loads(said["uri"].stdout)["Code"] == "Success"
    assert f"ALIBABA_CLOUD_ACCESS_KEY_SECRET={key.access_key_secret}\n" in said["env"].stdout
    (client,) = [one for one in vm.status()["credentials"]["uploader"]["clients"] if one["pid"] == os.getpid()]
    assert (client["user"], client["generation"], client["pickup"]) == ("root", 1, "confirmed")
    assert client["executable"] == os.readlink("/proc/self/exe")
    assert f"pid {os.getpid()}" in vm.keyturn("status", "uploader").stdout
    daemon.stop()
    done = vm.keyturn("credential", "uploader", "--format", "uri")
    assert (done.returncode, json.loads(done.stdout)["AccessKeySecret"]) == (0, key.access_key_secret)
    vm.server.stop()  # and after a restart while the source is down
    vm.daemon().ready()
    done = vm.keyturn("credential", "uploader")
    assert (done.returncode, json.loads(done.stdout)["access_key_secret"]) == (0, key.access_key_secret)


@pytest.mark.parametrize(
    "written", ["\ufeff[agent]\nruntime_directory = '/r'", "[agent]\nruntime_directory = '${HERE}/r'"]
)
def test_the_daemon_is_looked_for_where_it_reads_that_it_shall_be(tmp_path, monkeypatch, written):
    """Behind a byte order mark, and with the variables of the environment, as the daemon and all other commands do."""
    monkeypatch.setenv("HERE", "")
    (tmp_path / "keyturn.toml").write_text(written)
    assert list(credential._directories(str(tmp_path / "keyturn.toml")))[-1] == "/r"


def test_a_config_that_is_no_file_is_not_waited_for(tmp_path):
    """A FIFO, or a device without an end, names no directory."""
    os.mkfifo(tmp_path / "fifo")
    assert credential._named_in(str(tmp_path / "fifo")) is None
    assert credential._named_in("/dev/zero") is None


def test_the_official_sdk_moves_to_a_new_key_without_a_restart(vm, monkeypatch):
    """A client that lives on asks again when `hold` has passed, and signs with the new key; the audit says that it moved."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    vm.configure(vm.credential(notify=serve(hold="1s")))
    vm.daemon().ready()
    command = " ".join([*KEYTURN, "--config", str(vm.config), "credential", "uploader"])
    client = ExternalCredentialsProvider(process_command=command)
    old = vm.cloud.current_key("uploader-ak").access_key_id
    assert client.get_credentials().get_access_key_id() == old
    new = vm.cloud.rotate("uploader-ak").access_key_id
    assert vm.keyturn("refresh").returncode == 0
    eventually(lambda: client.get_credentials().get_access_key_id() == new)
    eventually(lambda: "pickup_confirmed" in vm.events())
    assert vm.audit("pickup_confirmed")[0]["generation"] == 2


def test_a_credential_without_sinks_is_nowhere_on_disk(vm, monkeypatch):
    """It is served from memory, and after a restart it is not there while the source is down."""
    first = started(vm, sinks="")
    key = vm.cloud.current_key("uploader-ak")
    assert key.access_key_secret in vm.keyturn("credential", "uploader").stdout
    first.stop()
    vm.server.stop()
    vm.daemon()
    eventually(lambda: (vm.run_directory / "credentials.sock").exists())
    monkeypatch.setattr(credential, "RESTART_S", 0.0)
    assert called(vm).exit_code == 75
    files = [path for path in vm.directory.rglob("*") if path.is_file() and "cloud" not in str(path)]
    assert [path for path in files if key.access_key_secret.encode() in path.read_bytes()] == []


def called(vm, name="uploader"):
    """What the command raises in this process, where nobody waits for a daemon."""
    with pytest.raises(KeyturnError) as raised:
        credential.credential(argparse.Namespace(config=str(vm.config), name=name, format="external"))
    return raised.value


def test_without_a_daemon_and_a_file_that_can_be_read(vm, monkeypatch):
    """One sentence that says which files there would be, and 69; a wrong name is a wrong name."""
    monkeypatch.setattr(credential, "RESTART_S", 0.0)
    vm.configure(vm.credential(notify=serve()))
    vm.env_path().write_text("ALIBABA_CLOUD_ACCESS_KEY_ID=LTAI1\n")
    error = called(vm)
    assert (error.exit_code, str(vm.ini_path()) in str(error)) == (69, True)
    assert called(vm, "uplaoder").exit_code == 2
    vm.configure("[agent]\nfoo = 1\n")
    assert called(vm).exit_code == 69


@pytest.mark.parametrize(("hours", "living"), [(-1, False), (1, True)])
def test_a_session_that_one_file_knows_to_be_over_is_read_from_none(vm, hours, living):
    """An env file does not say when a session expires; where a sibling does, that counts."""
    other = f'[[credentials.uploader.sinks]]\ntype = "json"\npath = "{vm.app}/uploader.json"\n'
    vm.configure(vm.credential(sinks=vm.env("uploader") + other, notify=serve()))
    value = replace(session(), expiration=datetime.now(UTC).replace(microsecond=0) + timedelta(hours=hours))
    settings = wiring.load_settings(str(vm.config), {})
    for one in wiring.Factory(settings, {}).sinks("uploader"):
        with open(one.target, "wb") as file:
            file.write(one.render(None, value, 1))
    document, _problem = credential_from_files.read(str(vm.config), "uploader", "external")
    assert (document is not None) is living
    assert document is None or json.loads(document)["access_key_id"] == value.access_key_id


def test_a_daemon_that_is_restarted_is_waited_for(vm, capfdbinary):
    """For seconds: an SDK raises at once where its command fails."""
    vm.configure(vm.credential(notify=serve()))
    vm.run_directory.mkdir()
    with answering(vm.run_directory, b'{"length": 3}\n{}\n', after_s=0.3):
        assert credential.credential(argparse.Namespace(config=str(vm.config), name="uploader", format="env")) == 0
    assert capfdbinary.readouterr().out == b"{}\n"


def test_a_daemon_that_has_no_value_yet_is_waited_for(vm, capfdbinary):
    """It was restarted, and what it serves is on no disk: its first fetch takes a moment."""
    started(vm, sinks="").stop()
    vm.cloud.fail_next(503)
    vm.daemon()
    eventually((vm.run_directory / "credentials.sock").exists)
    assert credential.credential(argparse.Namespace(config=str(vm.config), name="uploader", format="env")) == 0
    assert vm.cloud.current_key("uploader-ak").access_key_secret.encode() in capfdbinary.readouterr().out


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes somebody else")
def test_an_application_that_may_not_read_the_config(public_vm):
    """Its user is let in by the kernel's word alone, and a stranger is told how; a reload begins and ends to serve."""
    vm, path = public_vm, public_vm.run_directory / "credentials.sock"
    vm.configure(vm.credential())
    daemon = vm.daemon().ready()
    assert not path.exists()
    vm.configure(vm.credential(notify=serve(who=f'users = ["{STRANGER}"]')))
    vm.config.chmod(0o600)
    daemon.signal(signal.SIGHUP)
    eventually(path.exists)
    assert path.stat().st_mode & 0o777 == 0o666
    vm.environ["RUNTIME_DIRECTORY"] = str(vm.run_directory)
    let_in, other = (vm.keyturn_as(uid, "credential", "uploader") for uid in (STRANGER, STRANGER + 1))
    assert (let_in.returncode, let_in.stderr) == (0, "")
    assert (other.returncode, other.stdout) == (77, "")
    assert "[credentials.uploader.serve]" in other.stderr
    vm.configure(vm.credential())
    daemon.signal(signal.SIGHUP)
    eventually(lambda: not path.exists())


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes somebody else")
def test_without_a_daemon_and_a_config_that_may_be_read(public_vm, monkeypatch):
    """Whoever may not read the config cannot know where the value is published: that is said, with 69."""
    monkeypatch.setattr(credential, "RESTART_S", 0.0)
    vm = public_vm
    vm.configure(vm.credential(notify=serve()))
    vm.config.chmod(0o600)
    called(vm)  # imports what it needs as root

    def ask():
        error = called(vm)
        assert (error.exit_code, str(vm.config) in str(error)) == (69, True)

    assert in_child(ask, user=STRANGER) == 0


# -- false daemons ----------------------------------------------------------------------------------


@contextmanager
def answering(directory, answer, *, uid=None, after_s=0.0):
    """A socket in the place of the daemon's, whose server answers everybody alike."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(directory / credential.SOCKET_NAME))
    os.chmod(directory / credential.SOCKET_NAME, 0o666)
    asked = []

    def play():
        time.sleep(after_s)
        if uid is None:
            listener.listen()
        while True:
            try:
                channel, _address = listener.accept()
            except OSError:
                return
            with channel, suppress(OSError):
                asked.append(channel.recv(65536))
                channel.sendall(answer)

    if uid is not None:  # the kernel names whoever called listen(2)
        assert in_child(lambda: listener.listen(), user=uid) == 0
    elif not after_s:
        listener.listen()
    threading.Thread(target=play, daemon=True).start()
    yield asked
    with suppress(OSError):
        listener.shutdown(socket.SHUT_RDWR)
    listener.close()


@pytest.mark.parametrize(
    "answer", [b"", b"{", b'{"length": 20}\n{"mode": "AK"', b"[]\n", b'{"length": 1}\nab', b"{}\n"]
)
def test_half_a_document_is_none(tmp_path, answer):
    """An answer that is cut off, or none, is as if there were no daemon."""
    with answering(tmp_path, answer), pytest.raises(credential.NoDaemonError):
        credential._exchange(str(tmp_path), {})


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes somebody else")
@pytest.mark.parametrize("owner", [0, STRANGER], ids=["root's directory", "their directory below /tmp"])
def test_a_strangers_socket_is_not_asked(public_vm, owner):
    """Anybody can put a socket into a directory of theirs: what listens there would see who asks for what."""
    vm = public_vm
    vm.configure(vm.credential(notify=serve()))
    vm.run_directory.mkdir()
    os.chown(vm.run_directory, owner, -1)
    with answering(vm.run_directory, b'{"length": 3}\n{}\n', uid=STRANGER) as asked:
        assert called(vm).exit_code == 77
    assert b"".join(asked) == b""


def test_a_directory_that_root_gave_away_is_believed(tmp_path):
    """As /run/keyturn is the service's: nobody else could have put it there."""
    assert credential._given_by_root("/root" if os.geteuid() == 0 else "/", 0)
    assert not credential._given_by_root("/tmp", 0)
    assert not credential._given_by_root(str(tmp_path / "absent"), os.geteuid())
    assert not credential._given_by_root("/", STRANGER)


def test_the_applications_own_runtime_directory_is_none_of_ours(tmp_path, monkeypatch):
    """Its unit may set $RUNTIME_DIRECTORY: it counts where our socket is in it."""
    monkeypatch.setenv("RUNTIME_DIRECTORY", f"{tmp_path}/app:{tmp_path}/keyturn")
    monkeypatch.setattr(credential, "RUNTIME_DIRECTORY", str(tmp_path / "run"))
    (tmp_path / "keyturn.toml").write_text(f'[agent]\nruntime_directory = "{tmp_path}/named"\n')
    config = str(tmp_path / "keyturn.toml")
    assert list(credential._directories(config)) == [f"{tmp_path}/named"]
    for name in ("keyturn", "run"):
        (tmp_path / name).mkdir()
        (tmp_path / name / credential.SOCKET_NAME).touch()
    assert list(credential._directories(config)) == [f"{tmp_path}/{name}" for name in ("keyturn", "run", "named")]
    assert list(credential._directories(f"{tmp_path}/absent")) == [f"{tmp_path}/keyturn", f"{tmp_path}/run"]


PLAIN = {
    "credential a": (None, "a", "external"),
    "--config x credential a --format uri": ("x", "a", "uri"),
    "credential a --format csv": None,
    "credential --help": None,
    "credential": None,
    "--config credential a": None,
    "credential a b": None,
    "status": None,
    "credential ü": None,
}


@pytest.mark.parametrize("line", PLAIN)
def test_the_usual_form_is_recognised_without_a_parser(line):
    """Whatever is not plain goes through the whole command line."""
    assert entry._plain(line.split()) == PLAIN[line]


def test_it_imports_next_to_nothing(tmp_path):
    """Sixty workers may each run it once a minute: no parser, no type checking, none of our own modules besides."""
    with answering(tmp_path, b'{"length": 3}\n{}\n'):
        script = (
            "import sys; from agent.cli.entry import entry\ntry: entry()\nfinally: print(*sys.modules, file=sys.stderr)"
        )
        done = subprocess.run(
            [sys.executable, "-c", script, "credential", "a"],
            env={"RUNTIME_DIRECTORY": str(tmp_path), "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stdout) == (0, "{}\n")
    modules = set(done.stderr.split())
    assert {one for one in modules if one.startswith("agent")} == {
        "agent",
        "agent.cli",
        "agent.cli.entry",
        "agent.cli.credential",
    }
    assert modules.isdisjoint({"argparse", "tomllib", "dataclasses", "subprocess", "ctypes"})


def test_what_is_written_out_for_a_quick_start_is_what_the_others_say():
    """Socket, directory, config and formats stand in modules that the command does not import."""
    assert (credential.SOCKET_NAME, credential.RUNTIME_DIRECTORY) == (SOCKET_NAME, RUNTIME_DIRECTORY)
    assert credential.DEFAULT_CONFIG == parsers.DEFAULT_CONFIG == needs.DEFAULT_CONFIG
    for form in Format:
        line = ["credential", "a", "--format", str(form)]
        assert entry._plain(line) == (None, "a", str(form))
        assert command_line.parser(line).parse_args(line).format == form


@pytest.mark.parametrize("closed", [">&-", "<&- >&-"])
def test_without_standard_output_it_says_nothing(tmp_path, closed):
    """Whoever closed it wants no document, and gets no traceback; descriptor 1 may be something else by then."""
    with answering(tmp_path, b'{"length": 3}\n{}\n'):
        done = subprocess.run(
            ["/bin/sh", "-c", f'exec "$@" {closed}', "sh", *KEYTURN, "credential", "a"],
            env={"RUNTIME_DIRECTORY": str(tmp_path), "PYTHONPATH": str(ROOT)},
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, "")


# -- an emergency -----------------------------------------------------------------------------------

HOLDER = """\
import subprocess, sys
print(subprocess.run(sys.argv[1:], capture_output=True, text=True).stdout, flush=True)
sys.stdin.read()
"""


def test_an_emergency_waits_for_those_who_fetched_the_old_key(vm, station):
    """The old key lives until each has fetched the new one or is gone; meanwhile new answers are kept for five seconds."""
    vm.configure(vm.credential(notify=serve()), station.table)
    vm.daemon().ready()
    old = vm.cloud.current_key("uploader-ak").access_key_id
    command = [*KEYTURN, "--config", str(vm.config)]
    options = {"env": vm.environ, "text": True, "stdout": subprocess.PIPE}
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, *command, "credential", "uploader"], stdin=subprocess.PIPE, **options
    )
    assert old in holder.stdout.readline()
    rotate = subprocess.Popen(
        [*command, "rotate", "uploader", "--reason", "leaked", "--disable-old", "--yes", "--json"], **options
    )
    eventually(lambda: vm.status()["credentials"]["uploader"]["generation"] == 2)
    found = json.loads(vm.keyturn("credential", "uploader").stdout)
    left_s = time.mktime(time.strptime(found["expiration"], "%Y-%m-%dT%H:%M:%SZ")) - time.mktime(time.gmtime())
    assert 180 < left_s <= 186
    assert rotate.poll() is None
    (held,) = [one for one in vm.status()["credentials"]["uploader"]["clients"] if one["pid"] == holder.pid]
    assert (held["generation"], held["pickup"]) == (1, "not picked up")
    assert "old_key_disabled" not in vm.events()
    holder.communicate()
    result = json.loads(rotate.communicate(timeout=PATIENCE_S)[0])
    assert (result["safe"], result["all_moved"]) == (True, True)
    (step,) = [one for one in result["steps"] if one["name"] == "fetched"]
    assert f"pid {holder.pid}" in step["detail"]

"""The credentials endpoint of a real daemon: the official SDK and others ask it, over rotations, restarts and reloads."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from http import HTTPStatus
from urllib.parse import urlsplit

import pytest

from tests.support.processes import in_child
from tests.support.scraper import Answer, free_port, get
from tests.support.vm import Vm, eventually, quoted

VARIABLE = "ALIBABA_CLOUD_CREDENTIALS_URI"
NOBODY = 65534


class Shop:
    """A VM whose daemon serves one credential by a URI."""

    def __init__(self, vm: Vm) -> None:
        self.vm, self.port = vm, free_port()
        self.path = vm.app / "uri.env"

    def configure(self, serve: str = "", port: int | None = None, also: str = "") -> None:
        sink = f'[[credentials.uploader.sinks]]\ntype = "credentials_uri"\npath = {quoted(self.path)}\n'
        listen = f'[agent.endpoint]\nlisten = "127.0.0.1:{port or self.port}"\n'
        self.vm.configure(self.vm.agent() + listen, self.vm.credential(sinks=sink + also), serve)

    @property
    def uri(self) -> str:
        """What a process that is started now would be sent to."""
        (line,) = [line for line in self.path.read_text().splitlines() if line.startswith(f"{VARIABLE}=")]
        return line.partition("=")[2]

    def ask(self, uri: str | None = None, **headers: str) -> Answer:
        parts = urlsplit(uri or self.uri)
        assert parts.port is not None
        return get(parts.port, f"{parts.path}?{parts.query}", **{"User-Agent": "curl/8", **headers})


@pytest.fixture
def shop(vm: Vm) -> Shop:
    return Shop(vm)


SDKS = {
    "alibabacloud_credentials": """\
import time
from alibabacloud_credentials.client import Client
client = Client()
while True:
    print(client.get_credential().access_key_id, flush=True)
    time.sleep(0.2)
""",
    "oss2": """\
import os, time
from oss2.credentials import EcsRamRoleCredentialsProvider
provider = EcsRamRoleCredentialsProvider(os.environ["ALIBABA_CLOUD_CREDENTIALS_URI"])
while True:
    print(provider.get_credentials().get_access_key_id(), flush=True)
    time.sleep(0.2)
""",
}


@pytest.mark.parametrize("sdk", SDKS)
def test_a_running_sdk_follows_a_rotation_without_news(shop: Shop, sdk: str) -> None:
    """It read an address once, at its start; the key it signs with is the new one a `hold` after the publish."""
    shop.configure('[credentials.uploader.serve]\nusers = ["root"]\nhold = "1s"\n')
    shop.vm.daemon().ready()
    environ = {
        **shop.vm.environ,
        VARIABLE: shop.uri,
        "HOME": str(shop.vm.app),
        "ALIBABA_CLOUD_ECS_METADATA_DISABLED": "true",
    }
    running = subprocess.Popen([sys.executable, "-c", SDKS[sdk]], env=environ, stdout=subprocess.PIPE, text=True)
    try:
        assert running.stdout is not None
        first = running.stdout.readline().strip()
        assert first == shop.vm.status()["credentials"]["uploader"]["access_key_id"]
        shop.vm.cloud.rotate("uploader-ak")
        assert shop.vm.keyturn("refresh", "uploader").returncode == 0
        second = shop.vm.status()["credentials"]["uploader"]["access_key_id"]
        assert second != first
        seen = eventually(lambda: next(line for line in running.stdout if line.strip() == second))
        assert seen and running.poll() is None
    finally:
        running.kill()
        running.wait()


def test_a_replaced_token_goes_on_until_it_dies(shop: Shop) -> None:
    """Beside the new one for the overlap, over a restart too; then it is refused, and the file has no other change."""
    shop.configure(also='[[credentials.uploader.sinks]]\ntype = "env_file"\npath = ' + quoted(shop.path) + "\n")
    daemon = shop.vm.daemon().ready()
    old = shop.uri
    assert shop.ask(old).status == HTTPStatus.OK
    done = shop.vm.keyturn("endpoint", "rotate-token", "uploader", "--reason", "drill", "--json")
    (new_row, old_row) = json.loads(done.stdout)["credentials"]["uploader"]
    assert (new_row["until"], new_row["last_used_at"]) == (None, None) and old_row["last_used_by"] == os.geteuid()
    new = shop.uri
    assert new != old and [shop.ask(uri).status for uri in (old, new)] == [200, 200]
    assert "ALIBABA_CLOUD_ACCESS_KEY_SECRET" in shop.path.read_text()
    daemon.stop()
    shop.vm.daemon().ready()
    assert shop.uri == new and [shop.ask(uri).status for uri in (old, new)] == [200, 200]
    shop.vm.keyturn("endpoint", "rotate-token", "uploader", "--overlap", "0s")
    assert [shop.ask(uri).status for uri in (old, new, shop.uri)] == [200, 403, 200]
    (first, _second) = shop.vm.audit("endpoint_token_rotated")
    assert (first["reason"], first["sinks"], first["actor"]["uid"]) == ("drill", [str(shop.path)], os.geteuid())
    secrets = [urlsplit(uri).query.partition("=")[2] for uri in (old, new, shop.uri)]
    written = [path.read_bytes().decode("utf-8", "replace") for path in shop.vm.directory.rglob("*") if path.is_file()]
    assert not [text for text in written for secret in secrets if secret in text and VARIABLE not in text]


def test_a_token_is_replaced_without_a_daemon_and_without_the_source(shop: Shop) -> None:
    """By the command itself, under the lock; what the files say is what the next daemon lets in."""
    shop.configure()
    shop.vm.daemon().ready()
    old = shop.uri
    shop.vm.daemons[0].stop()
    shop.vm.cloud.fail_next(503, times=1000)
    assert shop.vm.keyturn("endpoint", "rotate-token", "uploader").returncode == 0
    assert shop.uri != old
    shown = json.loads(shop.vm.keyturn("endpoint", "tokens", "--json").stdout)["credentials"]["uploader"]
    assert [row["until"] is None for row in shown] == [True, False]
    assert shop.vm.keyturn("endpoint", "rotate-token", "other").returncode == 2
    assert shop.vm.keyturn("endpoint", "rotate-token", "uploader", "--path", "/no/such").returncode == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
def test_another_uid_is_refused_where_serve_names_users(shop: Shop) -> None:
    """By the kernel's word, whatever token it has; and who is named gets it, without being the agent's user."""
    shop.configure('[credentials.uploader.serve]\nusers = ["nobody"]\n')
    shop.vm.daemon().ready()
    uri = shop.uri
    assert in_child(lambda: exactly(shop.ask(uri).status, 200), user=NOBODY) == 0
    assert in_child(lambda: exactly(shop.ask(uri).status, 403), user=NOBODY - 1) == 0


def exactly(found: int, wanted: int) -> None:
    assert found == wanted, found


def test_a_reload_moves_the_endpoint_and_keeps_the_token(shop: Shop) -> None:
    """To another port: the file names it, and the token is the old one."""
    shop.configure()
    daemon = shop.vm.daemon().ready()
    before = urlsplit(shop.uri)
    port = free_port()
    shop.configure(port=port)
    daemon.signal(1)
    after = urlsplit(eventually(lambda: shop.uri if urlsplit(shop.uri).port == port else ""))
    assert (after.port, after.query) == (port, before.query)
    assert eventually(lambda: answers(shop)) == HTTPStatus.OK


def answers(shop: Shop) -> int:
    try:
        return shop.ask().status
    except OSError:
        return 0


def test_hundreds_of_idle_connections_keep_nobody_out_and_the_log_names_no_token(shop: Shop) -> None:
    """Whoever says nothing gives way. The log has refusals with their reason, and no token or query at its most talkative.

    A thousand: bench/serve.py with --endpoint.
    """
    shop.configure()
    shop.vm.config.write_text(shop.vm.config.read_text().replace("[agent]\n", '[agent]\nlog_level = "debug"\n'))
    daemon = shop.vm.daemon().ready()
    token = urlsplit(shop.uri).query.partition("=")[2]
    wrong = "w" * len(token)
    assert shop.ask().status == HTTPStatus.OK
    began = time.monotonic()
    assert shop.ask(shop.uri.replace(token, wrong)).status == HTTPStatus.FORBIDDEN
    assert time.monotonic() - began >= 0.9
    eventually(lambda: "its token is wrong" in daemon.log)
    assert token not in daemon.log and wrong not in daemon.log and "token=" not in daemon.log
    idle = [socket.create_connection(("127.0.0.1", shop.port), 20.0) for _ in range(300)]
    assert shop.ask().status == HTTPStatus.OK
    for channel in idle:
        channel.close()

"""The server itself: TLS, strangers at the door, the admin API, and the CA that outlives it."""

from __future__ import annotations

import socket
import ssl
import stat
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests
from alibabacloud_sts20150401.client import Client as Sts

from providers.emulator import Cloud, EmulatorServer
from providers.emulator.pki import CertificateKind

if TYPE_CHECKING:
    from .conftest import World


def test_a_client_that_never_shakes_hands_delays_nobody(world: World) -> None:
    """Ten silent connections are open while a real one is served."""
    silent = [socket.create_connection(("127.0.0.1", world.server.port)) for _ in range(10)]
    try:
        assert world.tea(Sts, world.key).get_caller_identity().status_code == 200
    finally:
        for each in silent:
            each.close()


def test_plain_http_gets_no_answer(world: World) -> None:
    """The port speaks TLS only; the next client is served."""
    with pytest.raises(requests.exceptions.ConnectionError):
        requests.get(f"http://{world.server.endpoint}/", timeout=10)
    world.tea(Sts, world.key).get_caller_identity()


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "::1"])
def test_the_certificate_fits_every_loopback_name(world: World, name: str) -> None:
    """The names that a client may use for loopback verify, strictly by RFC 5280."""
    context = ssl.create_default_context(cafile=str(world.files.ca))
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    with (
        socket.create_connection(("127.0.0.1", world.server.port), timeout=30) as raw,
        context.wrap_socket(raw, server_hostname=name) as tls,
    ):
        assert tls.version() in ("TLSv1.2", "TLSv1.3")


def test_the_certificate_fits_no_other_name(world: World) -> None:
    """A client that means another host is stopped."""
    context = ssl.create_default_context(cafile=str(world.files.ca))
    with (
        socket.create_connection(("127.0.0.1", world.server.port), timeout=30) as raw,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        context.wrap_socket(raw, server_hostname="oss-cn-hangzhou.aliyuncs.com")


@pytest.mark.parametrize(
    ("kind", "reason"),
    [("wrong_host", "IP address mismatch"), ("unknown_ca", "unable to get local issuer"), ("expired", "has expired")],
)
def test_a_wrong_certificate_is_wrong_in_one_respect(tmp_path: Path, kind: CertificateKind, reason: str) -> None:
    """A careful client stops for the reason that was ordered; one that checks nothing is served."""
    with EmulatorServer(Cloud(), tmp_path, certificate=kind) as server:
        url = f"https://{server.endpoint}/"
        with pytest.raises(requests.exceptions.SSLError, match=reason):
            requests.post(url, verify=str(server.ca_file), timeout=10)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert requests.post(url, verify=False, timeout=10).status_code == 400


def test_a_wrong_certificate_leaves_the_ca_alone(tmp_path: Path) -> None:
    """The next server in the same directory is trusted again."""
    EmulatorServer(Cloud(), tmp_path, certificate="unknown_ca").stop()
    with EmulatorServer(Cloud(), tmp_path) as server:
        assert requests.post(f"https://{server.endpoint}/", verify=str(server.ca_file), timeout=10).status_code == 400


def test_a_body_without_a_sane_length_is_refused(world: World) -> None:
    """Two megabytes by declaration: 413 and the end of the connection, without reading them."""
    context = ssl.create_default_context(cafile=str(world.files.ca))
    with (
        socket.create_connection(("127.0.0.1", world.server.port), timeout=30) as raw,
        context.wrap_socket(raw, server_hostname="127.0.0.1") as tls,
    ):
        tls.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\n")
        assert tls.recv(4096).startswith(b"HTTP/1.1 413 ")


def test_junk_is_an_error_and_no_crash(world: World) -> None:
    """A request that is no call of an API is a MissingParameter, whatever its bytes."""
    for body in (b"", b"\xff\xfe", b"%zz=%&&&=", b"Action=\xc3\x28"):
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        reply = requests.post(world.url(), data=body, headers=headers, verify=str(world.files.ca), timeout=10)
        assert (reply.status_code, reply.json()["Code"]) == (400, "MissingParameter")


def test_stop_frees_the_port_and_may_come_twice(tmp_path: Path, port: int) -> None:
    """A stopped server can be followed by another on the same port."""
    first = EmulatorServer(Cloud(), tmp_path, port=port)
    first.start()
    first.stop()
    first.stop()
    with EmulatorServer(Cloud(), tmp_path, port=port) as second:
        assert second.port == first.port == port


def test_a_server_that_was_never_started_can_be_stopped(tmp_path: Path) -> None:
    """A set-up that fails half-way can always clean up."""
    EmulatorServer(Cloud(), tmp_path).stop()


def test_the_ca_outlives_the_server(make_world: Callable[[], World]) -> None:
    """A client that trusts the CA trusts the emulator that is started next in the same directory."""
    first = make_world()
    ca = first.files.ca.read_bytes()
    first.server.stop()
    second = make_world()
    assert second.files.ca.read_bytes() == ca
    second.tea(Sts, second.key).get_caller_identity()


def test_a_broken_ca_is_made_anew(tmp_path: Path) -> None:
    """A CA certificate without its key is worth nothing, and is replaced."""
    EmulatorServer(Cloud(), tmp_path).stop()
    old = (tmp_path / "ca.pem").read_bytes()
    (tmp_path / "ca-key.pem").unlink()
    EmulatorServer(Cloud(), tmp_path).stop()
    assert (tmp_path / "ca.pem").read_bytes() != old


def test_keys_and_token_are_private(world: World) -> None:
    """Nobody else may read what signs certificates or opens the admin API."""
    for name in ("ca-key.pem", "server.pem", "admin-token"):
        assert stat.S_IMODE((world.files.directory / name).stat().st_mode) == 0o600


# The admin API


def admin(world: World, method: str, path: str, body: object = None, token: str | None = None) -> requests.Response:
    return requests.request(
        method,
        world.url(f"/_emulator/{path}"),
        json=body,
        headers={"X-Emulator-Token": world.files.admin_token.read_text() if token is None else token},
        verify=str(world.files.ca),
        timeout=10,
    )


def test_the_admin_api_wants_its_token(world: World) -> None:
    """Without the token: 403, and nothing happens."""
    for token in ("", "wrong"):
        assert admin(world, "POST", "rotate", {"secret": "uploader-ak"}, token=token).status_code == 403
    assert len(world.cloud.secret("uploader-ak").versions) == 1


def test_rotation_can_be_ordered_from_outside(world: World) -> None:
    """The demo's other process plays KMS's schedule."""
    old = world.key
    reply = admin(world, "POST", "rotate", {"secret": "uploader-ak", "version_id": "demo-1"}).json()
    assert reply == {
        "old_access_key_id": old.access_key_id,
        "access_key_id": world.key.access_key_id,
        "version_id": "demo-1",
    }
    assert old.access_key_id != world.key.access_key_id


def test_faults_can_be_ordered_from_outside(world: World) -> None:
    """By status or by name."""
    admin(world, "POST", "fault", {"status": 503, "times": 2, "action": "GetCallerIdentity"}).raise_for_status()
    admin(world, "POST", "fault", {"fault": "wrong_shape", "body": "[1]"}).raise_for_status()
    url = world.url("/?Action=GetCallerIdentity")
    replies = [requests.post(url, verify=str(world.files.ca), timeout=10) for _ in range(3)]
    assert [reply.status_code for reply in replies] == [503, 503, 200]
    assert replies[-1].json() == [1]


def test_the_session_of_the_instance_can_be_renewed_from_outside(world: World) -> None:
    """And the policies of a role detached, which makes it useless."""
    world.cloud.add_role("app")
    world.cloud.set_instance_role("app")
    first = world.cloud.instance_session()
    made = admin(world, "POST", "rotate_instance_session").json()["access_key_id"]
    assert made == world.cloud.instance_session().access_key_id != first.access_key_id
    assert admin(world, "POST", "detach_policies", {"role": "app"}).json() == {"role": "app"}
    assert first.revoked


def test_a_leak_can_be_ordered_from_outside(world: World) -> None:
    """A key is put under restrictive protection."""
    named = {"access_key_id": world.key.access_key_id}
    assert admin(world, "POST", "restrict", named).json() == named
    assert world.key.restricted


def test_somebody_in_the_console_can_be_played(world: World) -> None:
    """A user and its keys are made, disabled and deleted; what is true is told beside what lists show."""
    made = admin(world, "POST", "add_user", {"user": "reporter", "actions": ["ram:ListAccessKeys"]}).json()
    assert made == {"user": "reporter", "user_id": world.cloud.user("reporter").user_id}
    key = admin(world, "POST", "create_access_key", {"user": "reporter"}).json()
    known = world.cloud.access_key(key["access_key_id"])
    assert key["access_key_secret"] == known.access_key_secret
    assert admin(world, "POST", "delays", {"list_s": 60, "disable_s": 0.5}).json() == {
        "propagation_s": 0.0,
        "disable_s": 0.5,
        "list_s": 60.0,
    }
    admin(world, "POST", "create_access_key", {"user": "reporter"}).raise_for_status()
    assert len(world.cloud.listed_keys("reporter")) == 1
    named = {"access_key_id": key["access_key_id"]}
    admin(world, "POST", "update_access_key", {**named, "status": "Inactive"}).raise_for_status()
    told = admin(world, "GET", "access_keys?user=reporter").json()
    assert (told["keys"][key["access_key_id"]], len(told["keys"]), told["recycle_bin"]) == ("Inactive", 2, [])
    admin(world, "POST", "delete_access_key", named).raise_for_status()
    told = admin(world, "GET", "access_keys?user=reporter").json()
    assert (len(told["keys"]), told["recycle_bin"]) == (1, [key["access_key_id"]])


def test_records_can_be_read_from_outside(world: World) -> None:
    """Calls after a number, and the sums; the admin's own calls are not counted."""
    for _ in range(3):
        world.tea(Sts, world.key).get_caller_identity()
    calls = admin(world, "GET", "calls?since=1").json()["calls"]
    assert [call["number"] for call in calls] == [2, 3]
    assert calls[0]["action"] == "GetCallerIdentity"
    assert admin(world, "GET", "summary").json() == {
        "calls": 3,
        "by_action": {"GetCallerIdentity": 3},
        "by_code": {"OK": 3},
        "by_access_key_id": {world.key.access_key_id: {"answered": 3, "refused": 0, "failed": 0}},
    }


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "nothing", None, 404),
        ("GET", "rotate", None, 404),
        ("POST", "rotate", {}, 400),
        ("POST", "rotate", {"secret": "unknown"}, 404),
        ("POST", "rotate", ["list"], 400),
        ("POST", "rotate_instance_session", None, 404),
        ("POST", "detach_policies", {"role": "unknown"}, 404),
        ("POST", "detach_policies", {}, 400),
        ("POST", "restrict", {"access_key_id": "unknown"}, 404),
        ("POST", "create_access_key", {"user": "nobody"}, 404),
        ("POST", "update_access_key", {"access_key_id": "unknown", "status": "Inactive"}, 404),
        ("POST", "delays", {"speed": 1}, 400),
        ("GET", "access_keys", None, 400),
        ("POST", "fault", {"fault": "unknown"}, 400),
        ("POST", "fault", {"times": 1}, 400),
        ("GET", "calls?since=x", None, 400),
    ],
)
def test_the_admin_api_says_what_is_wrong(world: World, method: str, path: str, body: object, status: int) -> None:
    """A mistake in a demo script is an answer with a reason, not a dead connection."""
    reply = admin(world, method, path, body)
    assert reply.status_code == status
    assert reply.json()["error"]

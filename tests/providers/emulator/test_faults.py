"""Every fault that can be ordered looks on the wire as its name says, and hits only whom it was meant for."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import threading
from typing import TYPE_CHECKING

import pytest
import requests
from alibabacloud_kms20160120 import models as kms_models
from alibabacloud_kms20160120.client import Client as Kms
from alibabacloud_sts20150401.client import Client as Sts

from providers.emulator import Fault

if TYPE_CHECKING:
    from .conftest import World


def ask(world: World, timeout: float = 10) -> requests.Response:
    """A call without a signature: faults of content come before any check."""
    url = world.url("/?Action=GetSecretValue&AccessKeyId=someone")
    return requests.post(url, verify=str(world.files.ca), timeout=timeout, allow_redirects=False)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (429, "Rejected.Throttling"),
        (500, "InternalFailure"),
        (503, "ServiceUnavailableTemporary"),
        (404, "Forbidden.ResourceNotFound"),
        (403, "Forbidden.NoPermission"),
    ],
)
def test_a_status_brings_its_documented_code(world: World, status: int, code: str) -> None:
    """The error body is the real one's: HttpStatus, Code, Message, RequestId, HostId."""
    world.cloud.fail_next(status)
    reply = ask(world)
    body = reply.json()
    assert (reply.status_code, body["Code"], body["HttpStatus"]) == (status, code, status)
    assert set(body) == {"HttpStatus", "Code", "Message", "RequestId", "HostId"}


def test_a_status_with_a_code_of_ones_own_hits_so_often(world: World) -> None:
    """Twice means twice; the third call is judged on its merits."""
    world.cloud.fail_next(503, code="Whatever.Code", times=2)
    codes = [ask(world).json()["Code"] for _ in range(3)]
    assert codes == ["Whatever.Code", "Whatever.Code", "MissingParameter"]


def test_sts_and_ram_errors_have_their_own_body(world: World) -> None:
    """These products send Recommend instead of HttpStatus."""
    world.cloud.fail_next(500)
    body = requests.post(world.url("/?Action=GetCallerIdentity"), verify=str(world.files.ca), timeout=10).json()
    assert set(body) == {"RequestId", "HostId", "Code", "Message", "Recommend"}


def test_rubbish_is_a_200_that_is_no_json(world: World) -> None:
    """As a captive portal or a proxy answers."""
    world.cloud.inject(Fault.RUBBISH)
    reply = ask(world)
    assert reply.status_code == 200
    with pytest.raises(ValueError, match="Expecting value"):
        reply.json()


def test_an_oversized_body_is_really_sent(world: World) -> None:
    """Ten megabytes, with a true Content-Length."""
    world.cloud.inject(Fault.OVERSIZED)
    reply = ask(world, timeout=60)
    assert len(reply.content) > 10_000_000
    assert int(reply.headers["Content-Length"]) == len(reply.content)


def test_an_empty_body_is_empty(world: World) -> None:
    """200 and nothing."""
    world.cloud.inject(Fault.EMPTY)
    reply = ask(world)
    assert (reply.status_code, reply.content) == (200, b"")


def test_wrong_shape_is_json_of_another_kind(world: World) -> None:
    """Valid JSON, but a list; a body of one's own replaces it."""
    world.cloud.inject(Fault.WRONG_SHAPE)
    world.cloud.inject(Fault.WRONG_SHAPE, body='{"SecretData": 17}')
    assert isinstance(ask(world).json(), list)
    assert ask(world).json() == {"SecretData": 17}


def test_a_redirect_points_elsewhere(world: World) -> None:
    """302 to a host that is not the cloud."""
    world.cloud.inject(Fault.REDIRECT)
    reply = ask(world)
    assert (reply.status_code, reply.headers["Location"]) == (302, "https://redirected.invalid/")


def test_a_hang_gives_no_answer_and_no_action(world: World) -> None:
    """The caller's own deadline ends it; the call is on record without a status."""
    world.cloud.inject(Fault.HANG)
    with pytest.raises(requests.exceptions.ReadTimeout):
        ask(world, timeout=0.5)
    assert [(call.status, call.fault) for call in world.cloud.calls] == [(0, "hang")]
    assert ask(world).status_code == 400


def test_a_hang_ends_when_the_server_stops(world: World) -> None:
    """`stop()` breaks hanging connections instead of waiting for them."""
    world.cloud.inject(Fault.HANG)
    outcome: list[BaseException] = []

    def hang() -> None:
        try:
            ask(world, timeout=60)
        except requests.exceptions.RequestException as error:
            outcome.append(error)

    caller = threading.Thread(target=hang)
    caller.start()
    while not world.cloud.calls:
        assert caller.is_alive()
    world.server.stop()
    caller.join(timeout=30)
    assert isinstance(outcome[0], requests.exceptions.ConnectionError)


def tls_connection(world: World) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=str(world.files.ca))
    raw = socket.create_connection(("127.0.0.1", world.server.port), timeout=30)
    return context.wrap_socket(raw, server_hostname="127.0.0.1")


def test_a_reset_is_a_tcp_reset(world: World) -> None:
    """Not an orderly end: the caller's system reports ECONNRESET.

    TLS is done in memory here, because Python's TLS sockets report a reset as an end of file.
    """
    world.cloud.inject(Fault.RESET)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context(cafile=str(world.files.ca))
    tls = context.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    with socket.create_connection(("127.0.0.1", world.server.port), timeout=30) as raw:
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                raw.sendall(outgoing.read())
                incoming.write(raw.recv(65536))
        tls.write(b"POST /?Action=GetSecretValue HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        raw.sendall(outgoing.read())
        with pytest.raises(ConnectionResetError):
            while raw.recv(65536):
                pass
    assert [(call.status, call.fault) for call in world.cloud.calls] == [(0, "reset")]


def test_a_lost_reply_hides_that_the_call_was_carried_out(world: World) -> None:
    """The worst moment of an emergency: the rotation happened and nobody said so; the same version id settles it."""
    kms, before = world.tea(Kms, world.ops), world.key
    world.cloud.inject(Fault.LOSE_REPLY, action="RotateSecret")
    request = kms_models.RotateSecretRequest(secret_name="uploader-ak", version_id="emergency-1")
    with pytest.raises(Exception, match=r"(?i)reset|aborted"):
        kms.rotate_secret(request)
    after = world.key
    assert after is not before
    assert kms.rotate_secret(request).body.version_id == "emergency-1"
    assert world.key is after


def test_a_drip_is_the_true_answer_one_byte_at_a_time(world: World) -> None:
    """Status line included; whoever is patient gets a valid reply."""
    world.server.drip_interval_s = 0.001
    world.cloud.inject(Fault.DRIP)
    sizes: list[int] = []
    with tls_connection(world) as tls:
        tls.sendall(b"GET /?Action=Nothing HTTP/1.1\r\nHost: x\r\n\r\n")
        received = b""
        while b"\r\n\r\n" not in received:
            piece = tls.recv(4096)
            sizes.append(len(piece))
            received += piece
    assert received.startswith(b"HTTP/1.1 400 ")
    assert set(sizes) == {1}


def test_a_dripping_answer_verifies_and_carries_out_its_call(world: World) -> None:
    """A real SDK call over a dripping line ends well when the drops come fast enough."""
    world.server.drip_interval_s = 0.0001
    world.cloud.inject(Fault.DRIP, action="GetCallerIdentity")
    assert world.tea(Sts, world.key).get_caller_identity().body.identity_type == "RAMUser"
    assert [(call.status, call.fault) for call in world.cloud.calls] == [(200, "drip")]


def test_a_drip_ends_when_the_server_stops(world: World) -> None:
    """However slow the drops, stop does not wait for the last one."""
    world.server.drip_interval_s = 3600.0
    world.cloud.inject(Fault.DRIP)
    with tls_connection(world) as tls:
        tls.sendall(b"GET /?Action=Nothing HTTP/1.1\r\nHost: x\r\n\r\n")
        assert tls.recv(1) == b"H"
        world.server.stop()
        with contextlib.suppress(ConnectionError, ssl.SSLError):  # a timeout is neither
            while tls.recv(1):
                pass


def test_a_fault_for_one_action_leaves_the_others_alone(world: World) -> None:
    """A KMS outage is no STS outage."""
    world.cloud.fail_next(503, action="GetSecretValue", times=100)
    world.tea(Sts, world.key).get_caller_identity()
    assert ask(world).status_code == 503


def test_a_connection_goes_on_after_an_error(world: World) -> None:
    """Keep-alive: an error answer costs no new handshake."""
    context = ssl.create_default_context(cafile=str(world.files.ca))
    connection = http.client.HTTPSConnection("127.0.0.1", world.server.port, context=context, timeout=30)
    world.cloud.fail_next(500, times=2)
    sockets = set()
    for _ in range(3):
        connection.request("POST", "/?Action=GetSecretValue")
        sockets.add(id(connection.sock))
        assert "Code" in json.load(connection.getresponse())
    connection.close()
    assert len(sockets) == 1

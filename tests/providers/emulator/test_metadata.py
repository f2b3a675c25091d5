"""The metadata service and the credentials URI answer as the real ones, and fail in every way that can be ordered."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

import pytest
import requests
from alibabacloud_credentials.exceptions import CredentialException
from alibabacloud_credentials.provider import EcsRamRoleCredentialsProvider, URLCredentialsProvider
from alibabacloud_sts20150401.client import Client as Sts

from providers.emulator import Fault, MetadataServer

if TYPE_CHECKING:
    from .conftest import World

ROLES = "/latest/meta-data/ram/security-credentials/"
TTL = "X-aliyun-ecs-metadata-token-ttl-seconds"
TOKEN = "X-aliyun-ecs-metadata-token"


@pytest.fixture
def metadata(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[MetadataServer]:
    """The metadata service of an instance with the role `app`."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    world.cloud.add_role("app", "kms:GetSecretValue")
    world.cloud.set_instance_role("app")
    with MetadataServer(world.cloud) as server:
        yield server


def ask(
    metadata: MetadataServer, path: str, method: str = "GET", timeout: float = 10, **headers: str
) -> requests.Response:
    return requests.request(method, metadata.url + path, headers=headers, timeout=timeout, allow_redirects=False)


def token(metadata: MetadataServer, ttl: str = "21600") -> str:
    return ask(metadata, "/latest/api/token", "PUT", **{TTL: ttl}).text


def seconds(text: str) -> float:
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()


# Metadata


def test_the_hardened_mode_asks_for_a_token_first(world: World, metadata: MetadataServer) -> None:
    """PUT for a token, role name as plain text, credentials as JSON; the session works."""
    world.cloud.imds_v1 = False
    header = {TOKEN: token(metadata)}
    assert ask(metadata, ROLES, **header).text == "app"
    assert ask(metadata, ROLES.rstrip("/"), **header).text == "app"
    body = ask(metadata, ROLES + "app", **header).json()
    assert set(body) == {"AccessKeyId", "AccessKeySecret", "SecurityToken", "Expiration", "LastUpdated", "Code"}
    session = world.cloud.instance_session()
    assert (body["Code"], body["AccessKeyId"]) == ("Success", session.access_key_id)
    assert seconds(body["Expiration"]) - seconds(body["LastUpdated"]) == 6 * 3600
    assert world.tea(Sts, session).get_caller_identity().body.arn.endswith(":assumed-role/app/i-emulated")
    assert [call.action for call in world.cloud.calls[:4]] == [
        "MetadataToken",
        "MetadataRoleName",
        "MetadataRoleName",
        "MetadataCredentials",
    ]


def test_without_imds_v1_a_missing_or_old_token_is_forbidden(world: World, metadata: MetadataServer) -> None:
    """403 for role name and credentials; a new token helps."""
    world.cloud.imds_v1 = False
    old = token(metadata, "60")
    world.clock.advance(60)
    for headers in ({}, {TOKEN: "invented"}, {TOKEN: old}):
        for path in (ROLES, ROLES + "app"):
            assert ask(metadata, path, **headers).status_code == 403
    assert ask(metadata, ROLES, **{TOKEN: token(metadata)}).status_code == 200


def test_with_imds_v1_no_token_is_needed(metadata: MetadataServer) -> None:
    """The old mode, which the emulated instance allows by default as real ones do."""
    assert ask(metadata, ROLES).text == "app"
    assert ask(metadata, ROLES + "app").json()["Code"] == "Success"


@pytest.mark.parametrize("ttl", ["0", "21601", "x", None])
def test_a_token_needs_a_sane_time_to_live(metadata: MetadataServer, ttl: str | None) -> None:
    """1 to 21600 seconds, else 400."""
    assert ask(metadata, "/latest/api/token", "PUT", **({TTL: ttl} if ttl else {})).status_code == 400


def test_an_instance_without_a_role_has_no_credentials(world: World, metadata: MetadataServer) -> None:
    """404, and so for another role's name and for unknown paths; wrong methods are 405."""
    assert ask(metadata, ROLES + "other").status_code == 404
    assert ask(metadata, "/latest/nothing").status_code == 404
    assert ask(metadata, ROLES, "PUT").status_code == 405
    assert ask(metadata, "/latest/api/token").status_code == 405
    world.cloud.set_instance_role(None)
    assert ask(metadata, ROLES).status_code == 404
    assert ask(metadata, ROLES + "app").status_code == 404


def test_the_session_changes_when_it_is_rotated(world: World, metadata: MetadataServer) -> None:
    """The same until then."""
    first = ask(metadata, ROLES + "app").json()["AccessKeyId"]
    assert ask(metadata, ROLES + "app").json()["AccessKeyId"] == first
    world.cloud.rotate_instance_session()
    assert ask(metadata, ROLES + "app").json()["AccessKeyId"] != first


def test_the_credentials_library_reads_it(
    world: World, metadata: MetadataServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stock provider, with its fixed address replaced by ours; it asks for a token each time."""
    host = "_EcsRamRoleCredentialsProvider__metadata_service_host"
    world.cloud.imds_v1 = False
    provider = EcsRamRoleCredentialsProvider(disable_imds_v1=True, async_update_enabled=False)
    monkeypatch.setattr(provider, host, metadata.endpoint)
    given = provider.get_credentials()
    assert given.get_access_key_id() == world.cloud.instance_session().access_key_id
    assert len(world.cloud.calls_of("MetadataToken")) == 2


# The credentials URI


def test_the_credentials_library_reads_a_session_from_the_uri(world: World, metadata: MetadataServer) -> None:
    """All fields of the protocol, and the end of the session."""
    session = world.cloud.instance_session()
    world.cloud.uri_credential = session
    given = URLCredentialsProvider(uri=metadata.credentials_uri).get_credentials()
    assert given.get_access_key_id() == session.access_key_id
    assert given.get_access_key_secret() == session.access_key_secret
    assert given.get_security_token() == session.security_token
    assert requests.get(metadata.credentials_uri, timeout=10).json()["Code"] == "Success"


def test_the_uri_hands_out_access_keys_too(world: World, metadata: MetadataServer) -> None:
    """With an empty token and an end of its own; a function is asked each time."""
    world.cloud.uri_credential = lambda: world.key
    for _ in range(2):
        body = requests.get(metadata.credentials_uri, timeout=10).json()
        assert (body["AccessKeyId"], body["SecurityToken"]) == (world.key.access_key_id, "")
        assert 3500 < seconds(body["Expiration"]) - world.clock() <= 3600
        world.cloud.rotate("uploader-ak")


def test_the_uri_keeps_count_and_queries(world: World, metadata: MetadataServer) -> None:
    """A query string is allowed, and a test can see it; nothing there is a 404, another method a 405."""
    assert requests.get(metadata.credentials_uri + "?token=abc&x=1", timeout=10).status_code == 404
    assert requests.post(metadata.credentials_uri, timeout=10).status_code == 405
    world.cloud.uri_credential = world.key
    assert requests.get(metadata.credentials_uri, timeout=10).status_code == 200
    assert list(world.cloud.uri_queries) == ["token=abc&x=1", "", ""]
    assert [call.status for call in world.cloud.calls_of("CredentialsUri")] == [404, 405, 200]


def test_the_uri_is_served_over_https_too(world: World) -> None:
    """By the server of the cloud, with its certificate."""
    world.cloud.uri_credential = world.key
    reply = requests.get(world.server.credentials_uri + "?a=b", verify=str(world.files.ca), timeout=10)
    assert reply.json()["AccessKeyId"] == world.key.access_key_id
    assert world.server.credentials_uri.startswith("https://")
    with pytest.raises(requests.exceptions.SSLError):
        requests.get(world.server.credentials_uri, timeout=10)


def test_a_refusal_of_the_uri_reaches_the_library(world: World, metadata: MetadataServer) -> None:
    """It says the status, as for the real thing."""
    world.cloud.fail_next(503, action="CredentialsUri")
    with pytest.raises(CredentialException, match="http_code=503"):
        URLCredentialsProvider(uri=metadata.credentials_uri).get_credentials()


# Faults

PATHS = {
    "MetadataToken": ("PUT", "/latest/api/token"),
    "MetadataRoleName": ("GET", ROLES),
    "MetadataCredentials": ("GET", ROLES + "app"),
    "CredentialsUri": ("GET", "/credentials"),
}


@pytest.mark.parametrize("action", PATHS)
def test_every_fault_works_over_plain_http(world: World, metadata: MetadataServer, action: str) -> None:
    """By the name of the action, once, as for the API; the next call is answered."""
    world.cloud.uri_credential = world.key
    metadata.drip_interval_s = 0.0
    method, path = PATHS[action]

    def answer(timeout: float = 30) -> requests.Response:
        return ask(metadata, path, method, timeout, **{TTL: "60"})

    good = answer()
    assert good.status_code == 200
    world.cloud.fail_next(418, "Teapot", action=action)
    assert answer().status_code == 418
    for fault, status, least in (
        (Fault.RUBBISH, 200, 1),
        (Fault.EMPTY, 200, 0),
        (Fault.WRONG_SHAPE, 200, 1),
        (Fault.REDIRECT, 302, 0),
        (Fault.OVERSIZED, 200, 10_000_000),
    ):
        world.cloud.inject(fault, action=action)
        reply = answer()
        assert reply.status_code == status
        assert reply.content != good.content
        assert len(reply.content) >= least
    world.cloud.inject(Fault.DRIP, action=action)
    assert answer().status_code == 200
    for fault in (Fault.RESET, Fault.LOSE_REPLY):
        world.cloud.inject(fault, action=action)
        with pytest.raises(requests.exceptions.ConnectionError):
            answer()
    world.cloud.inject(Fault.HANG, action=action)
    with pytest.raises(requests.exceptions.ReadTimeout):
        answer(timeout=0.3)
    assert answer().status_code == 200
    assert [call.fault for call in world.cloud.calls_of(action)] == [
        "", "status", "rubbish", "empty", "wrong_shape", "redirect", "oversized", "drip", "reset", "lose_reply", "hang", "",
    ]  # fmt: skip


def test_a_fault_for_one_action_leaves_the_others_alone(world: World, metadata: MetadataServer) -> None:
    """A metadata service that gives tokens but no credentials."""
    world.cloud.fail_next(500, action="MetadataCredentials")
    assert token(metadata)
    assert ask(metadata, ROLES).status_code == 200
    assert ask(metadata, ROLES + "app").status_code == 500


def test_a_hanging_metadata_service_can_be_stopped(world: World, metadata: MetadataServer) -> None:
    """`stop()` breaks the connection instead of waiting."""
    world.cloud.inject(Fault.HANG)
    outcome: list[BaseException] = []

    def hang() -> None:
        try:
            ask(metadata, ROLES, timeout=60)
        except requests.exceptions.RequestException as error:
            outcome.append(error)

    waiting = threading.Thread(target=hang)
    waiting.start()
    while not world.cloud.calls:
        assert waiting.is_alive()
    metadata.stop()
    waiting.join(timeout=30)
    assert isinstance(outcome[0], requests.exceptions.ConnectionError)


def test_a_reset_over_plain_http_is_a_tcp_reset(world: World, metadata: MetadataServer) -> None:
    """ECONNRESET, not an orderly end."""
    world.cloud.inject(Fault.RESET)
    with socket.create_connection(("127.0.0.1", metadata.port), timeout=30) as raw:
        raw.sendall(f"GET {ROLES} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        with pytest.raises(ConnectionResetError):
            while raw.recv(65536):
                pass


def test_its_date_is_the_clouds(world: World, metadata: MetadataServer) -> None:
    """The clock that all sessions follow."""
    world.clock.advance(-1200)
    told = parsedate_to_datetime(ask(metadata, ROLES).headers["Date"]).timestamp()
    assert abs(told - world.clock()) < 60

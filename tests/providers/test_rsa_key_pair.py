"""Session keys for an RSA key pair: the wire of aliyun-python-sdk-core, key files of every form, and every failure."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from agent.cloud.transport import UntrustedServerError
from agent.core.credential import Credential, Kind
from agent.core.errors import BadAnswerError, CredentialFileError, NotPermittedError, SourceRefusedError
from agent.core.settings import Duration, FilePath
from providers.rsa_key_pair import RsaKeyPair, RsaKeyPairSettings, signature
from tests.support.sts import (
    StsWorld,
    complaints,
    gives_no_session,
    lives_for,
    no_trust,
    record_posts,
)

PKCS1, PKCS8 = PrivateFormat.TraditionalOpenSSL, PrivateFormat.PKCS8


def pem(key: Any, form: PrivateFormat = PKCS8, password: bytes | None = None) -> str:
    secrecy = BestAvailableEncryption(password) if password else NoEncryption()
    return key.private_bytes(Encoding.PEM, form, secrecy).decode()


def bare(key: rsa.RSAPrivateKey, form: PrivateFormat = PKCS8) -> str:
    return base64.b64encode(key.private_bytes(Encoding.DER, form, NoEncryption())).decode()


class World(StsWorld):
    """With an RSA key pair of user `admin`, its private key on disk, and the provider under test."""

    def __init__(self, directory: Path, key: rsa.RSAPrivateKey, certificate: Any = "good") -> None:
        super().__init__(directory, certificate)
        self.rsa_key = key
        self.pair = self.cloud.add_rsa_key_pair("admin", private_key=key)
        self.key_file = directory / "key.pem"
        self.key_file.touch(mode=0o600)
        self.key_file.write_text(pem(key))

    def settings(self, **changes: Any) -> RsaKeyPairSettings:
        given = {
            "type": "rsa_key_pair",
            "public_key_id": self.pair.public_key_id,
            "private_key_file": FilePath(self.key_file),
        }
        return RsaKeyPairSettings(**{**given, **changes})

    def provider(self, **changes: Any) -> RsaKeyPair:
        return RsaKeyPair(self.settings(**changes), self.context())

    def get(self, timeout_s: float = 10.0, **changes: Any) -> Credential:
        return self.fetch(self.provider(**changes), timeout_s)


@pytest.fixture
def world(tmp_path: Path, rsa_key: rsa.RSAPrivateKey, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A running emulator, reached directly."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    made = World(tmp_path, rsa_key)
    with made.server:
        yield made


def test_a_session_key_is_fetched_by_one_call(world: World) -> None:
    """It is an AccessKey that dies, and has no token; and it can sign."""
    value = world.get(session_period=Duration(900))
    assert value.kind is Kind.ACCESS_KEY
    assert value.security_token is None
    assert lives_for(value, 900)
    assert [call.action for call in world.cloud.calls] == ["GenerateSessionAccessKey"]
    from agent.cloud.openapi import Sts
    from agent.cloud.transport import Transport
    from agent.system.clock import Clock

    sts = Sts(Transport(world.ca_file), world.server.endpoint)
    assert sts.get_caller_identity(value, now=Clock().now()).arn.endswith(":user/admin")


def test_the_signature_is_the_core_sdks(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The parameters are those of aliyun-python-sdk-core and of the Go libraries, signed as the core signs them."""
    from aliyunsdkcore.auth.algorithm import sha_hmac256
    from aliyunsdkcore.auth.signers.rsa_key_pair_signer import GetSessionAkRequest

    stock = GetSessionAkRequest()
    stock.set_duration_seconds(3600)
    stock.set_accept_format("JSON")
    stock.set_method("POST")
    url = stock.get_url("cn-hangzhou", world.pair.public_key_id, bare(world.rsa_key))
    expected = dict(parse_qsl(url.removeprefix("/?")))
    sent = record_posts(monkeypatch)
    world.get()
    ((query, _, body),) = sent
    given = dict(parse_qsl(query))
    assert not body
    changing = {"Timestamp", "SignatureNonce", "Signature"}
    assert set(given) - {"PublicKeyId"} == set(expected) - {"RegionId"}  # the region is the core's own
    assert {name: given[name] for name in expected if name not in changing | {"RegionId"}} == {
        name: value for name, value in expected.items() if name not in changing | {"RegionId"}
    }
    assert given["PublicKeyId"] == given["AccessKeyId"] == world.pair.public_key_id
    unsigned = {name: value for name, value in expected.items() if name != "Signature"}
    assert signature(unsigned, world.rsa_key) == expected["Signature"]
    assert sha_hmac256.get_signer_name() == given["SignatureMethod"]


FORMS: dict[str, Callable[[rsa.RSAPrivateKey], str]] = {
    "PEM of PKCS#8": pem,
    "PEM of PKCS#1": lambda key: pem(key, PKCS1),
    "bare base64 of PKCS#8": bare,
    "bare base64 of PKCS#1": lambda key: bare(key, PKCS1),
    "bare base64 in lines": lambda key: "\r\n".join(bare(key)[at : at + 64] for at in range(0, len(bare(key)), 64)),
    "PKCS#8 under an RSA label": lambda key: pem(key).replace("PRIVATE KEY", "RSA PRIVATE KEY"),
    "with a text before it": lambda key: f"Key of the uploader\n{pem(key)}",
    "with a byte order mark": lambda key: "\ufeff" + pem(key),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_private_key_is_read_in_every_form(world: World, form: str) -> None:
    """PEM, and the bare base64 of Alibaba's examples; `check` opens it too."""
    world.key_file.write_text(FORMS[form](world.rsa_key))
    assert world.get().access_key_id
    assert [finding.level for finding in world.provider().inspect()] == ["ok"]


def test_a_replaced_key_file_is_found(world: World) -> None:
    """The file is read for each fetch."""
    provider = world.provider()
    world.fetch(provider)
    world.key_file.write_text(pem(rsa.generate_private_key(public_exponent=65537, key_size=2048)))
    with pytest.raises(SourceRefusedError, match="SignatureDoesNotMatch"):
        world.fetch(provider)


BAD_KEYS: dict[str, tuple[Callable[[World], object], str]] = {
    "missing": (lambda world: world.key_file.unlink(), "missing"),
    "empty": (lambda world: world.key_file.write_text(""), "empty"),
    "rubbish": (lambda world: world.key_file.write_text("Canary Canary"), "holds no RSA private key"),
    "base64 of rubbish": (lambda world: world.key_file.write_text("Q2FuYXJ5"), "holds no RSA private key"),
    "half a key": (lambda world: world.key_file.write_text(bare(world.rsa_key)[:800]), "holds no RSA private key"),
    "PEM of rubbish": (
        lambda world: world.key_file.write_text("-----BEGIN PRIVATE KEY-----\nCanary\n-----END PRIVATE KEY-----"),
        "holds no RSA private key",
    ),
    "a public key": (
        lambda world: world.key_file.write_text("-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----"),
        "holds no RSA private key",
    ),
    "an elliptic curve": (
        lambda world: world.key_file.write_text(pem(ec.generate_private_key(ec.SECP256R1()))),
        "holds no RSA private key",
    ),
    "encrypted PKCS#8": (lambda world: world.key_file.write_text(pem(world.rsa_key, PKCS8, b"x")), "encrypted"),
    "encrypted PKCS#1": (lambda world: world.key_file.write_text(pem(world.rsa_key, PKCS1, b"x")), "encrypted"),
    "readable by others": (lambda world: world.key_file.chmod(0o640), "0640"),
    "too large": (lambda world: world.key_file.write_text("Canary" * 20_000), "larger than"),
}


@pytest.mark.parametrize("story", BAD_KEYS)
def test_a_private_key_that_cannot_be_used_is_named(
    world: World, story: str, shown: Callable[[BaseException], str]
) -> None:
    """The error and `check` name the file and say what to do, and show nothing of it; STS is not asked."""
    spoil, words = BAD_KEYS[story]
    spoil(world)
    with pytest.raises(CredentialFileError, match=rf"^credentials\.app: {world.key_file}.*{words}") as caught:
        world.get()
    assert caught.value.remedy
    said = shown(caught.value)
    assert "Canary" not in said
    assert bare(world.rsa_key)[:60] not in said
    (finding,) = world.provider().inspect()
    assert (finding.level, finding.place) == ("error", "credentials.app.provider.private_key_file")
    assert words in finding.text
    assert world.cloud.calls == []


@pytest.mark.parametrize("code", ["InvalidAccessKeyId.NotFound", "InvalidAction.NotFound"])
def test_an_unknown_key_has_the_region_in_its_remedy(world: World, code: str) -> None:
    """RSA key pairs are known in one region only, so STS of another knows neither the key nor the call."""
    world.cloud.fail_next(404, code)
    with pytest.raises(SourceRefusedError, match="does not know this public key") as caught:
        world.get()
    assert "ap-northeast-1" in caught.value.remedy
    assert "public_key_id" in caught.value.remedy


def test_a_user_that_may_not_is_told(world: World) -> None:
    """A refusal by policy is exit code 77."""
    world.cloud.fail_next(403, "Forbidden.RAM")
    with pytest.raises(NotPermittedError):
        world.get()


def answer(more: str = "") -> str:
    """A reply with id and secret."""
    return f'{{"SessionAccessKey": {{"SessionAccessKeyId": "Canary", "SessionAccessKeySecret": "Canary"{more}}}}}'


ANSWERS: dict[str, tuple[str, str]] = {
    "nothing": ("{}", "has no SessionAccessKey"),
    "a list": ('{"SessionAccessKey": ["Canary"]}', "has no SessionAccessKey"),
    "empty": ('{"SessionAccessKey": {}}', "has no key id"),
    "no secret": ('{"SessionAccessKey": {"SessionAccessKeyId": "Canary"}}', "has no secret"),
    "a number": ('{"SessionAccessKey": {"SessionAccessKeyId": 7, "SessionAccessKeySecret": "Canary"}}', "no key id"),
    "no end": (answer(), "has no Expiration"),
    "an end that is a number": (answer(', "Expiration": 1800000000'), "has no Expiration"),
    "an end that is a word": (answer(', "Expiration": "Canary"'), "is no time"),
}


@pytest.mark.parametrize("story", ANSWERS)
def test_a_reply_without_a_whole_session_is_refused(world: World, story: str) -> None:
    """What is missing or of another type is named and never quoted."""
    gives_no_session(world, world.get, *ANSWERS[story])


def test_a_session_that_is_over_is_refused(world: World) -> None:
    """An answer that died before it came is no value."""
    world.cloud.session_life_s = -5
    with pytest.raises(BadAnswerError, match=r"credentials\.app: .*already expired"):
        world.get()


def test_a_wrong_clock_is_told_with_its_skew(
    tmp_path: Path, rsa_key: rsa.RSAPrivateKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request from another time is refused in words that blame the clock, and say by how much."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    world = World(tmp_path, rsa_key)
    monkeypatch.setattr(world.cloud, "now", lambda: time.time() - 1200)
    with world.server, pytest.raises(SourceRefusedError, match=r"clock is (19|20|21) min ahead of its"):
        world.get()


def test_a_server_that_is_not_trusted_gets_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the CA nothing is sent; with `cloud.ca_file` a third party's CA is trusted (all other tests)."""
    with no_trust(monkeypatch), pytest.raises(UntrustedServerError, match="not from an authority"):
        world.get()
    assert world.cloud.calls == []


PROBLEMS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "all is well": ({"session_period": Duration(900), "sts_endpoint": "sts.ap-northeast-1.aliyuncs.com"}, []),
    "the longest": ({"session_period": Duration(3600)}, []),
    "an empty id": ({"public_key_id": ""}, ["public_key_id"]),
    "an id with a blank": ({"public_key_id": "a b"}, ["public_key_id"]),
    "too short": ({"session_period": Duration(899)}, ["session_period"]),
    "too long": ({"session_period": Duration(3601)}, ["session_period"]),
    "an URL for an endpoint": ({"sts_endpoint": "https://x"}, ["sts_endpoint"]),
}


@pytest.mark.parametrize("story", PROBLEMS)
def test_settings_that_cannot_work_are_told_by_key(story: str) -> None:
    """`check` says of each key what the SDKs and STS would refuse."""
    changes, keys = PROBLEMS[story]
    given = {"type": "rsa_key_pair", "public_key_id": "LTRSA.x", "private_key_file": FilePath("/k"), **changes}
    assert complaints(RsaKeyPairSettings(**given)) == keys

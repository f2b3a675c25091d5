"""The emulator takes nothing that the real gateways refuse: else a fault of the client would pass every test."""

from __future__ import annotations

import ssl
from http.client import HTTPSConnection
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.providers.emulator.conftest import World

KMS, STS, RAM, IMS = "kms.cn-hangzhou.aliyuncs.com", "sts.aliyuncs.com", "ram.aliyuncs.com", "ims.aliyuncs.com"


def said(
    world: World, target: str, *, host: str | None = None, address: str = "127.0.0.1", method: str = "POST", **more: str
) -> tuple[int, str]:
    """Status and code of one request to the emulator, with any `Host`, at any of its addresses."""
    context = ssl.create_default_context(cafile=str(world.files.ca))
    channel = HTTPSConnection(address, world.server.port, context=context, timeout=30)
    channel.putrequest(method, target, skip_host=True)
    channel.putheader("Host", host or f"{address}:{world.server.port}")
    for name, value in more.items():
        channel.putheader(name, value)
    channel.putheader("Content-Length", "0")
    channel.endheaders()
    reply = channel.getresponse()
    body = reply.read().decode("utf-8", "replace")
    channel.close()
    code = body.partition('"Code": "')[2].partition('"')[0] or body.partition('"Code":"')[2].partition('"')[0]
    return reply.status, code


def query(action: str, version: str) -> str:
    return "/?" + urlencode({"Action": action, "Version": version})


GET_SECRET, WHO, LIST, RECYCLED = (
    query("GetSecretValue", "2016-01-20"),
    query("GetCallerIdentity", "2015-04-01"),
    query("ListAccessKeys", "2015-05-01"),
    query("ListAccessKeysInRecycleBin", "2019-08-15"),
)
UNKNOWN, READ = (404, "InvalidAction.NotFound"), (400, "MissingParameter")

PRODUCTS: dict[tuple[str, str], tuple[int, str]] = {
    (KMS, GET_SECRET): READ,
    (KMS, WHO): UNKNOWN,
    (KMS, LIST): UNKNOWN,
    ("kms-vpc.cn-hangzhou.aliyuncs.com", GET_SECRET): READ,
    ("sts.cn-shanghai.aliyuncs.com", WHO): READ,
    ("sts-vpc.cn-hangzhou.aliyuncs.com", WHO): READ,
    (STS, WHO): READ,
    (STS, GET_SECRET): UNKNOWN,
    (RAM, LIST): READ,
    (RAM, WHO): UNKNOWN,
    (RAM, RECYCLED): UNKNOWN,
    (IMS, RECYCLED): READ,
    (IMS, LIST): UNKNOWN,
    ("RAM.aliyuncs.com", LIST): READ,
    ("kst-abc.cryptoservice.kms.aliyuncs.com", GET_SECRET): (415, ""),
    ("ram.cn-hangzhou.aliyuncs.com", LIST): (400, "InvalidHost"),
    ("kms.aliyuncs.com", GET_SECRET): (400, "InvalidHost"),
    ("evil.example", WHO): (400, "InvalidHost"),
    ("kms.cn-hangzhou.aliyuncs.com.evil.example", WHO): (400, "InvalidHost"),
    ("127.0.0.1:1", WHO): (400, "InvalidHost"),
    ("kms.cn-hangzhou.aliyuncs.com:1", GET_SECRET): (400, "InvalidHost"),
    ("[::1]", WHO): (400, "InvalidHost"),
}


@pytest.mark.parametrize(("host", "target"), PRODUCTS)
def test_each_product_answers_under_its_own_name(world: World, host: str, target: str) -> None:
    """A call to the wrong product is an unknown action there; a name of nobody's is refused. Each is recorded."""
    before = len(world.cloud.calls)
    assert said(world, target, host=host) == PRODUCTS[host, target]
    assert len(world.cloud.calls) == before + 1


@pytest.mark.parametrize("product", ["kms", "sts", "ram", "ims"])
def test_each_product_has_an_address_of_its_own(world: World, product: str) -> None:
    """Where no name can be resolved; the certificate fits, and only that product's actions are known."""
    address = world.server.endpoints[product].partition(":")[0]
    answers = {
        each: said(world, target, address=address)
        for each, target in (("kms", GET_SECRET), ("sts", WHO), ("ram", LIST), ("ims", RECYCLED))
    }
    assert answers == {each: READ if each == product else UNKNOWN for each in answers}


FORMS: dict[str, tuple[dict[str, Any], tuple[int, str]]] = {
    "another path": ({"target": "/x" + WHO[1:]}, UNKNOWN),
    "another method": ({"target": WHO, "method": "PUT"}, (405, "UnsupportedHTTPMethod")),
    "a parameter twice": ({"target": WHO + "&Action=GetCallerIdentity"}, (400, "InvalidParameter")),
    "a parameter twice, empty": ({"target": WHO + "&Version="}, (400, "InvalidParameter")),
    "a header twice": ({"target": WHO, "Accept": "a", "accept": "b"}, (400, "InvalidParameter")),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_request_in_another_form_is_refused(world: World, name: str) -> None:
    """Whatever is ambiguous, or what no gateway of an RPC product serves."""
    asked, wanted = FORMS[name]
    assert said(world, **asked) == wanted

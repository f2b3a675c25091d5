"""The official STS SDK (alibabacloud-sts20150401 1.2.0): its requests, its client, its replies; the sending is ours.

`StsClient` is the SDK's client, whose two ways out (`call_api` for signed calls, `do_rpcrequest` for anonymous ones)
end in a function of ours: the SDK's own follow redirects, bound single reads only, and put the URL with token and
signature into exception texts (docs/dependencies.md).

The client rests on a runtime (alibabacloud-tea-openapi, darabonba) that is never reached once those two are replaced,
but imports aiohttp, APScheduler, websocket-client and the whole credentials library: 52 MB resident and 0.5 s for a
process that has 29 MB with our transport alone. So what of the runtime is only named is stood in for while the client
is imported: 31 MB, 0.02 s (tea-openapi 0.4.6, darabonba-core 1.0.9, Python 3.11). Safe, because

* the modules that saw a stand-in belong to this file: they leave `sys.modules` again, so that whoever else in this
  process imports the SDK gets it whole;
* where somebody has loaded the SDK already, that one is used as it is;
* a version that needs more than the stand-ins have is imported whole: larger, not broken.

Rejected: the SDK's models without its client (29.4 MB), since which field of a request is which parameter of the API is
then told by us again.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

Send = Callable[[str, Mapping[str, str]], Mapping[str, Any]]
"""Sends an action with its parameters and returns the JSON object of the reply."""

_OURS = frozenset({"alibabacloud_sts20150401", "alibabacloud_tea_openapi", "darabonba"})
"""The packages of which this file keeps a copy of its own."""


class _Runtime:
    """In place of `alibabacloud_tea_openapi.client.Client`: what it would do, `StsClient` does."""


class _Utils:
    """In place of `alibabacloud_tea_openapi.utils.Utils`, which loads `cryptography` for signatures."""

    @staticmethod
    def query(params: Mapping[str, object]) -> dict[str, str]:
        """Texts of parameters; those of STS are flat."""
        return {name: str(value) for name, value in params.items()}


def _module(name: str, **attributes: object) -> ModuleType:
    made = ModuleType(name)
    vars(made).update(attributes)
    return made


STAND_INS = {
    made.__name__: made
    for made in (
        _module("aiohttp", ClientResponse=object, ClientSession=object),  # named in annotations
        _module("alibabacloud_credentials"),
        _module("alibabacloud_credentials.client", Client=object),  # named in annotations
        _module("alibabacloud_tea_openapi.client", Client=_Runtime),
        _module("alibabacloud_tea_openapi.utils", Utils=_Utils),
    )
}


def _import() -> tuple[Any, Any, Any]:
    from alibabacloud_sts20150401.client import Client  # type: ignore[import-untyped]
    from alibabacloud_sts20150401.models import (  # type: ignore[import-untyped]
        AssumeRoleRequest,
        AssumeRoleWithOIDCRequest,
    )

    return Client, AssumeRoleRequest, AssumeRoleWithOIDCRequest


@contextmanager
def _stood_in() -> Iterator[None]:
    loaded = set(sys.modules)
    missing = {name: made for name, made in STAND_INS.items() if _root(name) not in {_root(each) for each in loaded}}
    sys.modules.update(missing)
    try:
        yield
    finally:
        for name in set(sys.modules) - loaded:
            if name in missing or _root(name) in _OURS:
                del sys.modules[name]


def _root(name: str) -> str:
    return name.partition(".")[0]


def _lean() -> tuple[Any, Any, Any]:
    if any(_root(name) in _OURS for name in list(sys.modules)):  # somebody loaded the SDK already
        return _import()
    try:
        with _stood_in():
            found = _import()
    except (ImportError, AttributeError, TypeError):
        return _import()
    # Its handler would print every request to standard error where somebody sets DEBUG; a whole import adds it again.
    logging.getLogger("darabonba-core").handlers.clear()
    return found


Client, AssumeRoleRequest, AssumeRoleWithOIDCRequest = _lean()


class StsClient(Client):  # type: ignore[misc, valid-type]  # the SDK is not typed
    """The SDK's client, sending through a function of ours.

    What a call returns has `body`: None where the reply has another shape than the API documents.
    """

    def __init__(self, send: Send) -> None:
        """Keep the function. The inherited one would read the environment and build a credential client of its own."""
        self._send = send

    def call_api(self, params: Any, request: Any, runtime: Any) -> dict[str, Any]:
        """Where every signed call of the SDK ends."""
        return {"body": self._send(params.action, request.query)}

    def do_rpcrequest(self, action: str, *rest: Any) -> dict[str, Any]:
        """Where every anonymous call of the SDK ends: (…, request, runtime)."""
        return {"body": self._send(action, rest[-2].query)}

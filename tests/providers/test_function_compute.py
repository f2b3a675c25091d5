"""The session of an invocation: where it stands, what is missing in it, and for how long it is handed out."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from agent.core.credential import Credential, Kind
from agent.core.errors import KeyturnError, SourceRefusedError
from agent.core.provider import ProviderContext
from providers import function_compute
from providers.function_compute import FunctionCompute, FunctionComputeSettings, from_context, from_headers

PARTS = {
    "access_key_id": "STS.one",
    "access_key_secret": "canary-secret",
    "security_token": "canary-token",
}


def context(**parts: Any) -> SimpleNamespace:
    return SimpleNamespace(request_id="r", credentials=SimpleNamespace(**{**PARTS, **parts}))


def headers(**parts: str) -> dict[str, str]:
    return {f"X-Fc-{name.replace('_', '-').title()}": value for name, value in {**PARTS, **parts}.items()}


def provider() -> FunctionCompute:
    return FunctionCompute(FunctionComputeSettings(type="function_compute"), ProviderContext("reporter"))


def fetched() -> Credential:
    return provider().fetch(datetime.now(UTC))


def test_both_runtimes_bring_the_same_session() -> None:
    """The context object of a built-in one, the headers of a custom one, in any case."""
    by_context, by_headers = from_context(context()), from_headers(headers())
    assert by_context == by_headers
    assert by_context.kind is Kind.STS and by_context.expiration is None
    assert by_context.security_token is not None
    assert by_context.security_token.reveal() == PARTS["security_token"]
    assert "canary" not in repr(by_context)


@pytest.mark.parametrize("missing", PARTS)
@pytest.mark.parametrize("value", ["", None])
def test_a_function_without_a_role_brings_none(missing: str, value: Any) -> None:
    """Function Compute then leaves the parts empty, or out; the error names what is missing and quotes nothing."""
    broken = context(**{missing: value})
    sent = {name: text for name, text in headers().items() if missing.replace("_", "-") not in name.lower()}
    for source in (broken, sent, SimpleNamespace(), {}):
        with pytest.raises(SourceRefusedError) as caught, function_compute.invocation(source):
            pass
        assert "canary" not in str(caught.value)
        assert caught.value.remedy


def test_a_session_is_handed_out_while_its_invocation_runs() -> None:
    """To providers on other threads too; the newest of two that overlap; none afterwards, also after an exception."""
    refused(fetched)
    with function_compute.invocation(context()):
        found: list[Credential] = []
        asking = threading.Thread(target=lambda: found.append(fetched()))
        asking.start()
        asking.join()
        assert [one.access_key_id for one in found] == ["STS.one"]
        with function_compute.invocation(headers(access_key_id="STS.two")) as inner:
            assert fetched() == inner
        assert fetched().access_key_id == "STS.one"
    with pytest.raises(ZeroDivisionError), function_compute.invocation(context()):
        raise ZeroDivisionError
    refused(fetched)


def refused(ask: Any) -> None:
    with pytest.raises(KeyturnError) as caught:
        ask()
    assert isinstance(caught.value, SourceRefusedError)
    assert "credentials.reporter" in str(caught.value)


def test_check_says_whether_there_is_an_invocation() -> None:
    """A config of the daemon with this type is in error."""
    assert [found.level for found in provider().inspect()] == ["error"]
    with function_compute.invocation(context()):
        assert [found.level for found in provider().inspect()] == ["ok"]

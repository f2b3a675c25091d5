"""`function_compute`: the session that Function Compute hands to an invocation, for code that runs there.

No agent runs in Function Compute: its instances are frozen between invocations. What runs there calls keyturn as a library, and
says by `invocation` for how long a session is to be had (docs/function_compute/README.md)::

    from providers import function_compute

    def handler(event, context):
        with function_compute.invocation(context):
            ...  # a config's `provider = { type = "function_compute" }`, or a ram_user's authority, now has a value

Where the session stands: in `context.credentials` of a built-in runtime (Function Compute, "Context": access_key_id,
access_key_secret, security_token), in the headers of each request to a custom runtime ("Common request headers":
x-fc-access-key-id, x-fc-access-key-secret, x-fc-security-token). It is the function's role that Function Compute has assumed; a
function without one gets none. When it ends is said nowhere, so it is good for the invocation that brought it and no longer.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

from agent.core.credential import Credential
from agent.core.errors import SourceRefusedError
from agent.core.finding import Finding
from agent.core.provider import Provider
from agent.core.secret import Secret
from agent.core.settings import ProviderSettings

PARTS = ("access_key_id", "access_key_secret", "security_token")
HEADERS = {part: f"x-fc-{part.replace('_', '-')}" for part in PARTS}
"""Part -> header of a request to a custom runtime."""

_NO_ROLE = "give the function a role that RAM lets do what keyturn is to do, and that trusts fc.aliyuncs.com"


@runtime_checkable
class Headers(Protocol):
    """The headers of a request: a mapping, or the message of `http.server`."""

    def items(self) -> Iterable[tuple[str, str]]:
        """Return names and values."""


def from_context(context: object) -> Credential:
    """Return the session in the context object of an event handler.

    Raises:
        SourceRefusedError: a part is missing; the text names it, not its value.
    """
    found = getattr(context, "credentials", None)
    return _session({part: getattr(found, part, None) for part in PARTS}, "context.credentials", PARTS)


def from_headers(headers: Headers) -> Credential:
    """Return the session in the headers of a request to a custom runtime, in whatever case they are written.

    Raises:
        SourceRefusedError: a header is missing; the text names it, not its value.
    """
    known = {name.lower(): value for name, value in headers.items()}
    names = tuple(HEADERS.values())
    return _session({part: known.get(name) for part, name in HEADERS.items()}, "the request", names)


@contextmanager
def invocation(source: object) -> Iterator[Credential]:
    """Let every `function_compute` provider of this process hand out the session of an invocation; yield it.

    Args:
        source: the context object, or the request's headers.

    Raises:
        SourceRefusedError: it brings no session.
    """
    value = from_headers(source) if isinstance(source, Headers) else from_context(source)
    _INVOCATIONS.begin(value)
    try:
        yield value
    finally:
        _INVOCATIONS.end(value)


class _Invocations:
    """The sessions of the invocations that are under way. Providers ask on threads of their own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: list[Credential] = []

    def begin(self, value: Credential) -> None:
        with self._lock:
            self._values.append(value)

    def end(self, value: Credential) -> None:
        with self._lock:
            self._values = [one for one in self._values if one is not value]

    def newest(self) -> Credential | None:
        with self._lock:
            return self._values[-1] if self._values else None


_INVOCATIONS = _Invocations()


@dataclass(frozen=True, kw_only=True)
class FunctionComputeSettings(ProviderSettings):
    """The settings of `type = "function_compute"`: there are none."""


class FunctionCompute(Provider):
    """The provider of `type = "function_compute"`."""

    type_name: ClassVar[str] = "function_compute"
    Settings: ClassVar[type[ProviderSettings]] = FunctionComputeSettings
    settings: FunctionComputeSettings

    def _fetch(self, timeout_s: float) -> Credential:
        value = _INVOCATIONS.newest()
        if value is None:
            raise SourceRefusedError(
                f"credentials.{self.context.credential}: no invocation of Function Compute is under way",
                "this type is for code that runs there, inside `with function_compute.invocation(context)`; elsewhere use "
                "another one",
            )
        return value

    def inspect(self) -> Iterator[Finding]:
        """Yield whether there is an invocation."""
        place = f"credentials.{self.context.credential}.provider"
        if _INVOCATIONS.newest() is not None:
            yield Finding("ok", place, "an invocation of Function Compute has brought a session")
        else:
            yield Finding(
                "error",
                place,
                "no invocation of Function Compute is under way",
                "this type is for code that runs there: docs/function_compute/README.md",
            )


def _session(parts: Mapping[str, Any], place: str, names: tuple[str, ...]) -> Credential:
    missing = [
        name for name, value in zip(names, parts.values(), strict=True) if not isinstance(value, str) or not value
    ]
    if missing:
        raise SourceRefusedError(f"Function Compute: {place} has no {' and no '.join(missing)}", _NO_ROLE)
    return Credential(
        access_key_id=parts["access_key_id"],
        access_key_secret=Secret(parts["access_key_secret"]),
        security_token=Secret(parts["security_token"]),
    )

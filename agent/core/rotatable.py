"""The Protocol of a source whose values can be rotated, for the emergency."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from agent.core.credential import Credential


@runtime_checkable
class Rotatable(Protocol):
    """A source that KMS rotates on demand. Providers that can be rotated have these, besides the interface of each."""

    @property
    def secret_name(self) -> str:
        """The name or ARN of the secret, for RotateSecret."""

    def fetch_previous(self) -> Credential:
        """Ask for the value before the current one, expired or not.

        Raises:
            KeyturnError: the source could not be asked, or has that value no more.
        """

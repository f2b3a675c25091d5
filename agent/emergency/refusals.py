"""What a `rotate` is refused with before anything is done, in the same words as `plan` and `--dry-run` foresee it."""

from __future__ import annotations

from agent.core.errors import UsageError


def not_its_key(name: str, leaked: str, current_id: str, doubt: str = "") -> UsageError:
    """Return the error of a key that leaked and is none of the credential's.

    Args:
        name: of the credential.
        leaked: that key.
        current_id: the key in use.
        doubt: why the key before it is not known for certain, in a clause; "" where it is.
    """
    unsure = f" as far as is known here ({doubt})" if doubt else ""
    return UsageError(
        f"credentials.{name}: {leaked} is neither its current key {current_id} nor the one before{unsure}; nothing was rotated "
        "or disabled",
        "look up whose key it is (RAM console); for this credential's own keys see `keyturn audit show`",
    )


def not_rotatable(name: str, provider: str) -> UsageError:
    """Return the error of a value that keyturn cannot replace: its source is of that type."""
    return UsageError(
        f"credentials.{name}: keyturn cannot rotate a value of type {provider} at its source",
        f"replace the value at its source, then run: keyturn refresh {name}",
    )

"""The credentials that an operator names."""

from __future__ import annotations

from collections.abc import Sequence

from agent.core.errors import UsageError
from agent.core.text import nearest


def known_names(known: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return those of `known` that the operator named, each once, or all.

    Raises:
        UsageError: a name is not among them.
    """
    for name in names:
        if name not in known:
            from agent.core.suspects import without_suspects  # needed only once something is wrong

            near = nearest(name, known)
            raise UsageError(
                f"there is no credential {without_suspects(name)!r} in the config",
                f"did you mean {near}?" if near else "see `keyturn status`",
            )
    return list(dict.fromkeys(names)) or list(known)

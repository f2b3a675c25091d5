"""Who is known to be still on the old key: no emergency ends "safe, all moved" over their heads.

Decisions (docs/adr/0012):
* Known means evidence: a credential that still publishes the old key, a file that does not hold the new one, a dependent that
  was not told, one whose notification certainly cannot take effect, or whose pickup says no. Each holds up the end of the
  old key unless `--force` says that cutting it off matters more.
* What is only assumed to have picked the new key up is listed in the steps, and holds up nothing: evidence is not to be
  had of every dependent, and a leaked key that stays alive is worse.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from agent.core.errors import KeyturnError
from agent.engine.key_holders import Holder
from agent.engine.snapshot import DependentSnapshot
from agent.notifiers.interface import Notifier, Pickup


class Reason(StrEnum):
    """What is known of who was left behind."""

    HOLDS_OLD = "holds the old key"
    NOT_RENEWED = "not renewed"
    NOT_WRITTEN = "not written"
    NOT_TOLD = "not told"
    NO_EFFECT = "told without effect"
    NOT_PICKED_UP = "not picked up"
    FETCHED = "fetched the old key"
    HOST = "host not seen on the new key"


@dataclass(frozen=True, slots=True)
class LeftBehind:
    """One of them.

    Attributes:
        dependent: such as "systemd web.service"; "" for the credential itself.
        why: one clause.
        move: the command, or what to do, that moves it to the new key.
    """

    credential: str
    dependent: str
    reason: Reason
    why: str
    move: str

    def as_json(self) -> dict[str, str | None]:
        """Return it as `left_behind` of the result has it."""
        return {
            "credential": self.credential,
            "dependent": self.dependent or None,
            "reason": str(self.reason),
            "why": self.why,
            "move": self.move,
        }

    @property
    def who(self) -> str:
        """Its name, for people."""
        return self.dependent or f"credentials.{self.credential}"

    def __str__(self) -> str:
        return f"{self.who} ({self.why}; to move it: {self.move})"


def find(
    holders: Sequence[Holder], old_id: str, errors: Mapping[str, KeyturnError | None] | None = None
) -> tuple[LeftBehind, ...]:
    """Return everybody who is known to be still on the old key.

    Asks the notifiers, so not on the loop's thread.

    Args:
        errors: why a credential could not be refreshed.
    """
    failed = errors or {}
    return tuple(one for holder in holders for one in _of(holder, old_id, failed.get(holder.name)))


@dataclass(frozen=True, slots=True)
class Foreseen:
    """A dependent whom its notification will not move, or (`is_certain` is false) may not move."""

    behind: LeftBehind
    is_certain: bool


def foreseen(holder: Holder, notifier: Notifier) -> Foreseen | None:
    """Return what stands in the way of a notification's effect, before anything happens; None for nothing that is known.

    Asks the notifier, so not on the loop's thread.
    """
    cannot = notifier.hindered(holder.formats) if notifier.settings.pickup is None else None
    if cannot is None:
        return None
    behind = LeftBehind(holder.name, _called(notifier), Reason.NO_EFFECT, cannot.problem.text, notifier.by_hand())
    return Foreseen(behind, cannot.pickup is Pickup.NOT_PICKED_UP)


def copy_of_the_key(holder: Holder, name: str) -> LeftBehind | None:
    """Return another credential that publishes the same key from a source that does not follow the rotation; None for others."""
    if holder.name == name or holder.follows or not holder.holds_old:
        return None
    why = "it publishes the same key, and its source does not follow the rotation: replace the key there first"
    return LeftBehind(holder.name, "", Reason.HOLDS_OLD, why, f"keyturn refresh {holder.name}")


def named(left: Sequence[LeftBehind]) -> str:
    """Return them in one line, each dependent once however many credentials name it."""
    return ", ".join(dict.fromkeys(str(one) for one in left))


def named_once(left: Sequence[LeftBehind]) -> str:
    """Return them in one line, each process once: the first of what is said of it."""
    return named(list({one.who: one for one in reversed(left)}.values())[::-1])


def who_holds_it_up(left: Sequence[LeftBehind]) -> list[LeftBehind]:
    """Return those who hold up a rotation that lets the old key live on: not who was told, and goes on with it for now."""
    return [one for one in left if one.reason not in (Reason.NO_EFFECT, Reason.NOT_PICKED_UP)]


def refusal(left: Sequence[LeftBehind], place: str, old_id: str | None) -> KeyturnError | None:
    """Return the error with which an emergency stops over them; None where nothing holds it up.

    Args:
        old_id: the key that was to be disabled; None where the old key was to live on, which those who were told and
            did not pick the new one up survive for now.
    """
    left = left if old_id is not None else who_holds_it_up(left)
    if not left:
        return None
    text, again = (
        f"{place}: left behind on the old key: {named(left)}",
        "run the same command again (it does not rotate again)",
    )
    if old_id is None:
        return KeyturnError(text, again)
    return KeyturnError(
        f"{text}; so the old key {old_id} was left active", f"{again}; --force disables the old key all the same"
    )


def _of(holder: Holder, old_id: str, error: KeyturnError | None) -> Iterator[LeftBehind]:
    refresh = f"keyturn refresh {holder.name}"
    because = f" ({error.problem})" if error is not None else ""
    if holder.holds_old:
        source = "" if holder.follows else "; its source does not follow the rotation: replace the key there first"
        yield LeftBehind(holder.name, "", Reason.HOLDS_OLD, f"it still publishes {old_id}{because}{source}", refresh)
        return
    if not holder.is_current:
        why = f"what it publishes could not be renewed since the key changed{because}"
        yield LeftBehind(holder.name, "", Reason.NOT_RENEWED, why, refresh)
        return
    if holder.sinks_behind is None or holder.sinks_behind:
        what = ", ".join(holder.sinks_behind or ()) or "every sink"
        why = f"it is not certain that {what} holds the new key (see `keyturn status`)"
        yield LeftBehind(holder.name, "", Reason.NOT_WRITTEN, why, refresh)
    notifiers = {notifier.identity: notifier for notifier in holder.notifiers}
    for dependent in holder.seen.dependents:
        found = _dependent(holder, dependent, notifiers[dependent.identity])
        if found is not None:
            yield found


def _dependent(holder: Holder, seen: DependentSnapshot, notifier: Notifier) -> LeftBehind | None:
    who = _called(notifier)
    if seen.untold:
        said = (
            f": {seen.outcome.text}" if seen.outcome is not None and seen.outcome.text and not seen.outcome.told else ""
        )
        return LeftBehind(holder.name, who, Reason.NOT_TOLD, f"it was not told{said}", notifier.by_hand())
    if seen.pickup != Pickup.NOT_PICKED_UP:
        return None
    cannot = notifier.hindered(holder.formats)
    if cannot is not None and cannot.pickup is Pickup.NOT_PICKED_UP:
        return LeftBehind(holder.name, who, Reason.NO_EFFECT, cannot.problem.text, notifier.by_hand())
    why = "it was told, and does not use the new key as far as its pickup shows"
    return LeftBehind(holder.name, who, Reason.NOT_PICKED_UP, why, notifier.by_hand())


def _called(notifier: Notifier) -> str:
    return f"{notifier.type_name} {notifier.target}"

"""Spans of time as people read them: spelled as in the config (`30s`, `15m`, `12h`, `2d`)."""

from __future__ import annotations

from datetime import datetime

_UNITS = (("d", 86400), ("h", 3600), ("m", 60))
_UNITS_MS = (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000))


def span(seconds: float) -> str:
    """Return a span in its largest sensible unit, rounded: two of a unit at least, or what is smaller."""
    for unit, size in _UNITS:
        if seconds >= 2 * size:
            return f"{seconds / size:.0f}{unit}"
    return f"{max(0.0, seconds):.0f}s"


def whole_span(seconds: float) -> str:
    """Return a span as it would stand in a config: in the largest unit that it is a multiple of, to the millisecond."""
    ms = round(seconds * 1000)
    if ms == 0:
        return "0s"
    return next((f"{ms // size}{unit}" for unit, size in _UNITS_MS if ms % size == 0), f"{ms}ms")


def until(moment: datetime, now: datetime) -> str:
    """Return how far a moment is from now: "in 5m", "5m ago", "now"."""
    left_s = (moment - now).total_seconds()
    if abs(left_s) < 1:
        return "now"
    return f"in {span(left_s)}" if left_s > 0 else f"{span(-left_s)} ago"

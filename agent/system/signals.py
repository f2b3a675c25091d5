"""Signals by name, as kill(1) and systemd write them."""

from __future__ import annotations

import re
import signal

_REALTIME = re.compile(r"SIGRT(MIN|MAX)(?:([+-])(\d{1,2}))?")


def signal_number(name: str) -> int | None:
    """The number of SIGHUP, HUP, SIGRTMIN+3 and so on; None where there is no such signal."""
    full = name if name.startswith("SIG") else f"SIG{name}"
    realtime = _REALTIME.fullmatch(full)
    if realtime is None:
        return int(signal.Signals[full]) if full in signal.Signals.__members__ else None
    base = signal.SIGRTMIN if realtime[1] == "MIN" else signal.SIGRTMAX
    number = base + int(f"{realtime[2] or '+'}{realtime[3] or 0}")
    return number if signal.SIGRTMIN <= number <= signal.SIGRTMAX else None


def signal_name(number: int) -> str:
    """SIGHUP for 1, SIGRTMIN+1 for 35, and so on."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIGRTMIN+{number - signal.SIGRTMIN}" if number > signal.SIGRTMIN else f"signal {number}"

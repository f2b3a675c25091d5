"""Signals by name, as kill(1) and systemd write them, and those that come before there is somebody to handle them."""

from __future__ import annotations

import re
import signal

_REALTIME = re.compile(r"SIGRT(MIN|MAX)(?:([+-])(\d{1,2}))?")
_kept: list[int] = []


def keep(*numbers: int) -> None:
    """From now on note these signals, which would end the process, until `deliver_kept`. From the main thread.

    By a handler and not by a mask or by SIG_IGN: threads and commands that are started meanwhile would inherit those.
    """
    for number in numbers:
        signal.signal(number, lambda received, _frame: _kept.append(received))


def deliver_kept() -> None:
    """Give each signal that was noted, once, to the handler that it has now."""
    came = set(_kept)
    _kept.clear()
    for number in came:
        signal.raise_signal(number)


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

"""Signals by name, as kill(1) and systemd write them, and signals that come before their handlers are installed."""

from __future__ import annotations

import re
import signal

_REALTIME = re.compile(r"SIGRT(MIN|MAX)(?:([+-])(\d{1,2}))?")
_kept: list[int] = []


def keep(*numbers: int) -> None:
    """Catch these signals, which would end the process, and keep them until `deliver_kept`. Call it in the main thread.

    A handler does it, since threads and commands that are started meanwhile would inherit a blocked or ignored signal.
    """
    for number in numbers:
        signal.signal(number, lambda received, _frame: _kept.append(received))


def deliver_kept() -> None:
    """Call, once for each signal that was kept, the handler that is installed now."""
    came = set(_kept)
    _kept.clear()
    for number in came:
        signal.raise_signal(number)


def end_like_an_interrupt() -> None:
    """Have SIGTERM and SIGHUP end this command as Ctrl-C does: in good order, with all that it started."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # nohup ignores SIGHUP
            signal.signal(number, signal.default_int_handler)


def signal_number(name: str) -> int | None:
    """Return the number of SIGHUP, HUP, SIGRTMIN+3 and so on; None where there is no such signal."""
    full = name if name.startswith("SIG") else f"SIG{name}"
    realtime = _REALTIME.fullmatch(full)
    if realtime is None:
        return int(signal.Signals[full]) if full in signal.Signals.__members__ else None
    base = signal.SIGRTMIN if realtime[1] == "MIN" else signal.SIGRTMAX
    number = base + int(f"{realtime[2] or '+'}{realtime[3] or 0}")
    return number if signal.SIGRTMIN <= number <= signal.SIGRTMAX else None


def signal_name(number: int) -> str:
    """Return the name of a signal: SIGHUP for 1, SIGRTMIN+1 for 35, and so on."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIGRTMIN+{number - signal.SIGRTMIN}" if number > signal.SIGRTMIN else f"signal {number}"

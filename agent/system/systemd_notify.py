"""sd_notify(3): READY=1, STATUS=, RELOADING=1, STOPPING=1, WATCHDOG=1, EXTEND_TIMEOUT_USEC=.

The protocol is one datagram to $NOTIFY_SOCKET (a path, or an abstract name that begins with `@`), so no
library is needed. Outside systemd every call does nothing. `WATCHDOG_USEC` and `WATCHDOG_PID` are those of
sd_watchdog_enabled(3).
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping

PATIENCE_S = 1.0
"""Seconds to wait for a manager that does not read: its queue is full then, and sendmsg(2) would wait for ever."""


class ServiceManager:
    """The service manager that started this process, if there is one."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        path = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + path[1:] if path.startswith("@") else path
        mine = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        microseconds = environ.get("WATCHDOG_USEC", "")
        self._watchdog_s = int(microseconds) / 1e6 if mine and microseconds.isdigit() else 0.0

    @property
    def present(self) -> bool:
        """Whether a service manager listens."""
        return bool(self._address)

    @property
    def watchdog_interval_s(self) -> float | None:
        """Seconds between two keep-alives, half of what the manager allows; None where it has no watchdog."""
        return self._watchdog_s / 2 if self._watchdog_s and self.present else None

    def ready(self, status: str) -> None:
        """Report that the first pass has ended, or a reload."""
        self._send(f"READY=1\nSTATUS={status}")

    def starting(self, extension_s: float) -> None:
        """Ask the manager to wait for READY that long from now, or longer where it would anyway."""
        self._send(f"EXTEND_TIMEOUT_USEC={int(extension_s * 1e6)}")

    def status(self, text: str) -> None:
        """Set the line that `systemctl status` shows."""
        self._send(f"STATUS={text}")

    def reloading(self) -> None:
        """Report that the config is being read again, until `ready`. Type=notify-reload wants MONOTONIC_USEC with it."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        """Report that the process is shutting down."""
        self._send("STOPPING=1\nSTATUS=stopping")

    def alive(self) -> None:
        """Feed the watchdog. Call it only where the scheduler has just made progress."""
        self._send("WATCHDOG=1")

    def _send(self, text: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
                channel.settimeout(PATIENCE_S)
                channel.connect(self._address)
                channel.sendall(text.encode())
        except OSError:
            pass  # a manager that went away, or hangs, must not take the agent with it

"""Metrics as a scraper reads them, and HTTP as a client that may misbehave speaks it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from agent.metrics.counters import NOTIFICATIONS, REFRESHES, Durations
from agent.metrics.exposition import text
from agent.metrics.snapshot import Row, Snapshot

PATIENCE_S = 20.0


class Figures:
    """The samples of one text."""

    def __init__(self, text: str) -> None:
        self.families = list(text_string_to_metric_families(text))
        self._samples = {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in self.families
            for sample in family.samples
        }

    def get(self, name: str, **labels: str) -> float | None:
        """One sample; None where it is absent."""
        return self._samples.get((name, tuple(sorted(labels.items()))))

    def state(self, credential: str) -> str:
        """The one state whose gauge is 1."""
        (found,) = [
            dict(labels)["state"]
            for (name, labels), value in self._samples.items()
            if name == "keyturn_credential_state" and value == 1 and dict(labels)["credential"] == credential
        ]
        return found

    def labels(self) -> Iterator[dict[str, str]]:
        """The labels of every sample."""
        return (dict(labels) for _name, labels in self._samples)


@dataclass(frozen=True)
class Answer:
    """What a server said."""

    status: int
    headers: dict[str, str]
    body: str


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody holds just now."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def get(port: int, path: str, *, host: str = "127.0.0.1", method: str = "GET", **headers: str) -> Answer:
    """One request, as a well-behaved client makes it."""
    fields = {"Host": f"{host}:{port}", **headers}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return say(port, f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode(), host=host)


def say(port: int, request: bytes, *, host: str = "127.0.0.1") -> Answer:
    """Send these bytes, and read to the end."""
    with socket.create_connection((host, port), PATIENCE_S) as channel:
        channel.sendall(request)
        return heard(channel)


def heard(channel: socket.socket) -> Answer:
    """What comes, to the end; status 0 for nothing."""
    said = b""
    while piece := channel.recv(1 << 16):
        said += piece
    head, _blank, body = said.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    fields = {name.lower(): value.strip() for name, _colon, value in (line.partition(":") for line in lines)}
    return Answer(int(first.split(" ")[1]) if first else 0, fields, body.decode())


def row(name: str = "a", **more: Any) -> Row:
    """What the engine shows of one credential."""
    durations = Durations()
    for seconds in more.pop("took_s", ()):
        durations.add(seconds)
    given: dict[str, Any] = {
        "state": "fresh",
        "generation": 3,
        "expires_at": 2000.0,
        "last_success_at": 1000.0,
        "owed": 2,
        "refreshes": tuple((outcome, 4) for outcome in REFRESHES),
        "notifications": tuple(("exec", outcome, 5) for outcome in NOTIFICATIONS),
        "published": durations.cumulative(),
        "published_sum_s": durations.sum_s,
        **more,
    }
    return Row(name=name, **given)


def shown(*rows: Row, accept: str = "", **more: Any) -> str:
    """The text of these rows, as it is served."""
    return text(Snapshot(taken_at=1500.0, passed=True, awaited=(), rows=rows or (row(),), **more), accept)[0].decode()

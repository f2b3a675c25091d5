"""What `check` says of `metrics_listen` and `metrics_textfile`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from agent.core.finding import Finding
from agent.core.settings import AgentSettings
from agent.http.check import address_finding
from agent.system.free_space import write_problem
from agent.system.systemd_unit import make_directory


def findings(agent: AgentSettings) -> Iterator[Finding]:
    """Yield whether the address can be had, and the file be written where node_exporter looks for it."""
    if agent.metrics_listen:
        yield address_finding("agent.metrics_listen", agent.metrics_listen)
    if agent.metrics_textfile:
        yield from _file("agent.metrics_textfile", Path(agent.metrics_textfile))


def _file(place: str, path: Path) -> Iterator[Finding]:
    directory = path.parent
    if not directory.is_dir():
        yield Finding("error", place, f"{directory} does not exist", make_directory(directory, "0755"))
        return
    problem = write_problem(directory)
    if problem:
        yield Finding.of("error", place, problem)
    elif not os.access(directory, os.W_OK | os.X_OK, effective_ids=True):
        remedy = f"let that user write there, and name it in ReadWritePaths= of keyturn's unit: {directory}"
        yield Finding("error", place, f"{directory} cannot be written by uid {os.geteuid()}", remedy)
    elif path.suffix != ".prom":
        text = f"{path.name} is not what node_exporter looks for"
        yield Finding("warning", place, text, "end its name in .prom")
    else:
        yield Finding("ok", place, f"{path} can be written")

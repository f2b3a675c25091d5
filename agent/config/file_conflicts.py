"""Conflicts between files that are written: no part has two writers, and a shared file has one owner and one mode."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from agent.config.converter import Built
from agent.config.messages import Report, quoted, shown_place
from agent.core.problem import Place
from agent.core.settings import AgentSettings, FileSinkSettings

_WHOLE = ""
"""The name of the part that is the whole file."""


@dataclass(frozen=True)
class _Claim:
    """A claim of one part of the config on parts of a file; `place` is where its path stands."""

    writer: Place
    place: Place
    path: str
    parts: tuple[str, ...]

    def clash(self, other: _Claim) -> str | None:
        """Return the part that both claim, None when they can share the file."""
        if _WHOLE in self.parts or _WHOLE in other.parts:
            return _WHOLE
        return next((part for part in self.parts if part in other.parts), None)


def check(built: Sequence[Built], agent: AgentSettings, report: Report) -> None:
    """Report every target that is claimed twice. Paths are compared as written, without following symlinks."""
    files: dict[str, list[_Claim]] = {}
    for claim in [*_own_claims(agent), *_sink_claims(built, report)]:
        others = files.setdefault(claim.path, [])
        for other in others:
            _judge(claim, other, report)
        others.append(claim)
    _nothing_below(files, report)
    _one_manner(built, report)


def _nothing_below(files: Mapping[str, Sequence[_Claim]], report: Report) -> None:
    """Report a path below another one that is written: a file has nothing below it, and a sink's directory is its alone."""
    for path, claims in files.items():
        above = next((str(parent) for parent in PurePosixPath(path).parents if str(parent) in files), None)
        if above is not None:
            rival = files[above][0].writer
            said = f"{path} lies below {above}, which {shown_place(rival)} writes; give it another path"
            for claim in claims:
                report.add(claim.place, said, other=rival)


def _judge(claim: _Claim, other: _Claim, report: Report) -> None:
    part = claim.clash(other)
    if part is not None:
        what = f"{part} of {claim.path}" if part else claim.path
        rival = shown_place(other.writer)
        report.add(claim.place, f"{what} is already written by {rival}; give it another path", other=other.writer)


def _own_claims(agent: AgentSettings) -> Iterator[_Claim]:
    own = ((("agent", "audit", "path"), agent.audit.path), (("agent", "metrics_textfile"), agent.metrics_textfile))
    for place, path in own:
        if path:
            yield _Claim(place, place, os.path.normpath(path), (_WHOLE,))


def _file_sinks(built: Sequence[Built]) -> list[tuple[Place, FileSinkSettings]]:
    return [(each.place, each.settings) for each in built if each.whole and isinstance(each.settings, FileSinkSettings)]


def _sink_claims(built: Sequence[Built], report: Report) -> Iterator[_Claim]:
    for place, sink in _file_sinks(built):
        try:
            parts = tuple(key.removeprefix(sink.path).strip() for key in sink.target_keys())
        except Exception as error:  # the settings may be ones that `problems` just refused
            report.add(place, f"cannot say what it writes ({type(error).__name__}); mend its other problems first")
            continue
        yield _Claim(place, (*place, "path"), os.path.normpath(sink.path), parts)


def _one_manner(built: Sequence[Built], report: Report) -> None:
    """Report sinks of one file that differ in owner, mode or way of writing: the last one would win."""
    first: dict[str, tuple[Place, FileSinkSettings]] = {}
    for place, sink in _file_sinks(built):
        rival, other = first.setdefault(os.path.normpath(sink.path), (place, sink))
        for key in ("owner", "group", "mode", "write"):
            if getattr(sink, key) != getattr(other, key):
                where = shown_place(rival)
                mine, theirs = (_shown(key, getattr(each, key)) for each in (sink, other))
                said = f"{mine} differs from {theirs} of {where}, which writes the same file; give both the same"
                report.add((*place, key), said, other=rival)


def _shown(key: str, value: object) -> str:
    if value is None:
        return "the default"
    return quoted(f"{value:04o}" if key == "mode" else str(value))

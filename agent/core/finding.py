"""What `check` finds."""

from __future__ import annotations

from dataclasses import dataclass

from agent.core.problem import Problem


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of `check`: `level` is "ok", "warning" or "error"; a failure names its remedy."""

    level: str
    place: str
    text: str
    remedy: str = ""

    @classmethod
    def of(cls, level: str, place: str, problem: Problem) -> Finding:
        """Make the line for a problem at a place of the config."""
        return cls(level, place, problem.text, problem.remedy)

"""The result type of `keyturn check` and of every `inspect`."""

from __future__ import annotations

from dataclasses import dataclass

from agent.core.problem import Problem


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of `keyturn check`. `level` is "ok", "warning" or "error"; the latter two name a remedy where there is one."""

    level: str
    place: str
    text: str
    remedy: str = ""

    @classmethod
    def of(cls, level: str, place: str, problem: Problem) -> Finding:
        """Make the line for a problem at a place of the config."""
        return cls(level, place, problem.text, problem.remedy)

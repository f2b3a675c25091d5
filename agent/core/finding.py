"""The result type of `keyturn check` and of every `inspect`."""

from __future__ import annotations

from dataclasses import dataclass

from agent.core.problem import Problem

BEGINS = "begins"
"""The level of what is no finding yet: a look that may take seconds begins. Shown on a terminal until its finding comes."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of `keyturn check`. `level` is "ok", "warning" or "error"; the latter two name a remedy where there is one."""

    level: str
    place: str
    text: str
    remedy: str = ""

    @classmethod
    def begins(cls, place: str, text: str) -> Finding:
        """Make the announcement of a look that may take seconds."""
        return cls(BEGINS, place, text)

    @classmethod
    def of(cls, level: str, place: str, problem: Problem) -> Finding:
        """Make the line for a problem at a place of the config."""
        return cls(level, place, problem.text, problem.remedy)

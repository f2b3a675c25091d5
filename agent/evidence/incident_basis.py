"""What the document of an incident rests on, as its last section says it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from agent.evidence.fields import NOT_RECORDED
from agent.evidence.incident import Incident
from agent.evidence.page import Block, Cell, Commands, Facts, Notice, Paragraph, Pill


def basis_of(incident: Incident) -> Iterator[Block]:
    """Yield the section: the log, its newest record, whether it verified, and how to verify it again."""
    basis = incident.basis
    if not basis.log:
        yield Notice(
            "so-so", f"The audit log was not read: {basis.why_not}", ["This is what `rotate` itself reported."]
        )
        yield Paragraph("What stands in the log can be had later, by whoever may read it:")
        yield Commands(f"keyturn audit incident --credential {shlex.quote(incident.credential)}")
        return
    end = ""
    if basis.is_copy and not basis.end_proved:
        end = ", but not that nothing is missing behind its newest record"
    verified = {True: f"yes{end}", False: "no", None: "could not be tried"}[basis.whole]
    sure = "so-so" if end else "good"
    told: list[tuple[str, Cell]] = [
        ("Audit log", basis.log),
        ("Records", f"seq {basis.first_seq} to {basis.last_seq}"),
        ("Newest record", f"seq {basis.head_seq}"),
        ("Its hash", basis.head_hash or NOT_RECORDED),
        ("Verified", Pill(verified, {True: sure, False: "bad", None: "so-so"}[basis.whole])),
    ]
    if basis.verified_from > 1:
        told.append(("Oldest record there", f"seq {basis.verified_from}; older ones are archived elsewhere, or gone"))
    if basis.problems:
        told.append(("Why", basis.problems))
    yield Facts(told)
    yield Paragraph("To verify it again:")
    since = f" --from-seq {basis.verified_from}" if basis.verified_from > 1 else ""
    copy = f" --log {shlex.quote(basis.log)}" if basis.is_copy else ""
    head = f" --head {basis.head_seq}:{basis.head_hash}" if basis.is_copy and basis.end_proved else ""
    yield Commands(f"keyturn audit verify{copy}{head}{since}")

"""The audit log: JSON lines, each bound to the one before by its hash, flushed before an act is reported.

What the chain proves: an edited, removed, reordered or truncated record is found and named, because the
newest `seq` and hash also stand in the state directory. What it cannot prove: that somebody who can write
both the log and the state did not write a whole new history. Ship the log, or its head, to another machine
where that matters.

Decisions. A log that ends before the head that the state remembers is not continued from its own end but
from that head, so that the gap stays visible for ever. The head is remembered after the flush of its record
and never before: a power cut may cost the head its newest step, and the log's own end is newer then, but no
head is kept whose line is lost. A half-written last line after a crash was never
reported to anybody; it is cut off, kept beside the log, and recorded. A log that logrotate renamed or
`copytruncate`d away goes on in the new file with the chain unbroken, and `verify` reads rotated files
(`audit.jsonl.1`, `audit.jsonl-20261122`, `.gz`) in the order of their `seq`.
"""

from agent.audit.log import FIELDS, AuditLog
from agent.audit.preflight import log_problem
from agent.audit.reader import Head, Verdict, canonical, digest, read, read_head, rotated_files, verify

__all__ = [
    "FIELDS",
    "AuditLog",
    "Head",
    "Verdict",
    "canonical",
    "digest",
    "log_problem",
    "read",
    "read_head",
    "rotated_files",
    "verify",
]

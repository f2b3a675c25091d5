"""The audit log: JSON lines, each bound to the one before by its hash, flushed before an act is reported.

What the chain proves: an edited, removed, reordered or truncated record is found and named, because the
newest `seq` and hash also stand in the state directory. What it cannot prove: that somebody who can write
both the log and the state did not write a whole new history. Ship the log, or its head, to another machine
where that matters.

A log that ends before the head that the state remembers is continued from that head, so that the gap stays visible; what
becomes of half a line, and of rotated files (`audit.jsonl.1`, `audit.jsonl-20261122`, `.gz`): docs/adr/0007.
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

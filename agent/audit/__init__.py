"""The audit log: JSON lines, each bound to the one before by its hash, flushed before an act is reported.

What the chain proves: an edited, removed, reordered or truncated record is found and named. What the state remembers
proves the rest: the newest `seq` and hash are compared with the log at every start, and records are announced there before
they are written. So a history that was rewritten, and a record that somebody else appended, is never continued; the state
keeps the fact, and `verify` names it for ever. What this cannot prove: that somebody who can write both the log and the
state did not write a whole new history. A key (`hmac_key_file`) and the heads in the journal show that: docs/adr/0023.

A log that ends before the head that the state remembers is continued from that head, so that the gap stays visible; what
becomes of half a line, of a power cut, and of rotated files (`audit.jsonl.1`, `audit.jsonl-20261122`, `.gz`): docs/adr/0007.

This file imports nothing, so that a command that only reads the log does not pay for what writes it.
"""

"""The canary: signs a harmless call with what readers are offered now, so that a dead key is noticed before they notice it.

It hears of a publish, and holds up none: files are read and calls are made in a lane of their own, behind all other work.
docs/canary.md is for operators. Decisions:

* What signs is read back from the published files, not taken from memory: only the files tell of one that somebody put back.
* When the key before the newest ends, nobody says: KMS keeps it for up to two days. So a new key is watched each second for
  a minute at least, then until every dependent and every process that fetched is known to have it, for ten minutes at most.
  While a `rotate` runs, the whole time: it ends with the old key seen refused. Rejected: two days of calls each second.
* A refusal is a reason to ask the source, with the trigger `poll`, which it is, and the refusal as the reason; not `drift`,
  which is of files. At once, then ever more rarely while the source has nothing newer. While a `rotate` runs, not at all.
* A refused or restricted key is `verify_failed` in the audit: the events are contract, and this is a proof that failed.
* A restricted key is an alarm and nothing more. To rotate is an operator's act.
* STS away, throttled or not itself, and a wrong clock, are no refusals. What was switched while it was looked at is none either.
* A thousand canaries begin 25 looks a second at most, and a start spreads them, since quotas are of the whole account.
"""

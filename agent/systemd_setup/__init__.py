"""The set-up of keyturn's service on this host, derived from the config: START HERE.

`needs` derives from the config what the service needs; `render` makes systemd drop-ins and a polkit rule of that;
`install` compares them with the disk and writes them; `check` reports in `keyturn check` where the two differ, and
`daemon_or_timer` where both are enabled; `check_command` returns the command that runs `check` as the service, and
`as_service` has it run where root checks.

Decisions. The service runs as the static user `keyturn` without a capability, and everything beyond that is derived,
never guessed: an option is in the drop-in because a key of the config needs it, and the comment above it names the
key. It is a drop-in and not a unit of our own, so that the package's unit can change below it and the operator's own
drop-ins stay beside it. keyturn-once.service, which does the same work, gets the same one. Rejected: widening the rights
at run time, since a daemon that can widen its own sandbox has none.
"""

"""What this host has to give keyturn's service, and writing it: START HERE.

`needs` reads it off the config; `render` makes systemd drop-ins and a polkit rule of it; `place` compares them with what
is on the disk, and writes them; `inspection` says in `check` where the two differ, `choice` where daemon and timer are
both enabled; `transient` names the command that runs `check` as the service.

Decisions. The service runs as the static user `keyturn` without a capability, and everything beyond that is derived,
never guessed: an option stands in the drop-in because a key of the config needs it, and the comment above it names the
key. A drop-in and not a unit of our own, so that the package's unit can change below it and the operator's own drop-ins
stay beside it. The same drop-in for keyturn-once.service, which does the same work. Rejected: asking at run time what
is lacking, and asking for it: a daemon that can widen its own sandbox has none.
"""

from agent.systemd_setup.check import findings, is_the_services
from agent.systemd_setup.check_command import check_command
from agent.systemd_setup.install import Outcome, Plan, planned
from agent.systemd_setup.needs import Needs, environment, needs_of

__all__ = [
    "Needs",
    "Outcome",
    "Plan",
    "check_command",
    "environment",
    "findings",
    "is_the_services",
    "needs_of",
    "planned",
]

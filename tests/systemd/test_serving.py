"""`keyturn credential` under a real systemd: the application's own unit and user, and keyturn in its sandbox."""

from __future__ import annotations

import json

from tests.support.processes import eventually
from tests.support.systemd.machine import UNIT, Machine

SERVE = '[credentials.uploader.serve]\nusers = ["uploader"]\n'
ANSWER = "/run/asker/answer"
ASKER = f"keyturn credential uploader >{ANSWER} && exec sleep infinity"


def test_an_application_asks_as_its_own_user_from_its_own_unit(machine: Machine) -> None:
    """It may not read the config, and has a runtime directory of its own: who it is, is the kernel's word and systemd's cgroup."""
    machine.configure(SERVE)
    try:
        machine.setup()
        machine.start()
        started = machine.bed.run(
            "systemd-run", "--unit=asker", "--uid=uploader", "--property=RuntimeDirectory=asker", "sh", "-c", ASKER
        )
        assert started.returncode == 0, started.both
        eventually(lambda: machine.bed.read(ANSWER), "an answer", patience_s=60)
        assert json.loads(machine.bed.read(ANSWER))["access_key_id"] == machine.cloud.current()
        (client,) = machine.status()["clients"]
        assert (client["unit"], client["pid"]) == ("asker.service", int(machine.show("MainPID", "asker.service")))
        assert (client["pickup"], bool(client["executable"])) == ("confirmed", True)
        assert machine.keyturn("credential", "uploader", user="daemon").returncode == 77
        machine.systemctl("stop", UNIT)
        away = machine.keyturn("credential", "uploader", user="uploader")
        assert (away.returncode, away.stdout) == (69, "")
    finally:
        machine.systemctl("stop", "asker.service")
        machine.configure()
        machine.setup()

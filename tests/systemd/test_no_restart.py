"""The README's shortest path on a real systemd: Alibaba's sample, unchanged, as a unit of its own user, over rotations."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.processes import eventually
from tests.support.systemd.install import INSIDE, LIBRARIES, PYTHON
from tests.support.systemd.machine import CONFIG, INI, UNIT, Machine

HOME, TALLY = "/var/lib/uploader", "/run/sampler/tally.json"
PROFILE = f"{HOME}/.aliyun/config.json"
SAMPLER = f"""\
[Unit]
After=keyturn.service
[Service]
User=uploader
EnvironmentFile=/etc/uploader.environment
Environment=PYTHONPATH={LIBRARIES} HOME={HOME} ALIBABA_CLOUD_ECS_METADATA_DISABLED=true NO_PROXY=*
ExecStart={PYTHON} {INSIDE}/sampler.py $ENDPOINT /etc/ssl/cloud.pem {TALLY}
RuntimeDirectory=sampler
"""
SERVED = f"""
[credentials.uploader.serve]
users = ["uploader"]
hold = "2s"

[[credentials.uploader.sinks]]
type = "aliyun_cli"
profile_mode = "External"
path = "{PROFILE}"
group = "uploader"
mode = "0640"
"""


@pytest.fixture
def served(machine: Machine) -> Iterator[Machine]:
    """keyturn with such a config and nothing else, set up as an operator does, and the sample as a unit."""
    bed = machine.bed
    source = machine.uploader().partition("[[credentials.uploader.sinks]]")[0]
    bed.write(CONFIG, machine.agent() + source + SERVED, 0o640)
    bed.do("chgrp", "keyturn", CONFIG)
    bed.do("install", "-d", "-o", "uploader", "-m", "0755", HOME, f"{HOME}/.aliyun")
    bed.write("/etc/systemd/system/sampler.service", SAMPLER)
    bed.do(
        "sh", "-euc", "systemctl daemon-reload; systemctl stop uploader"
    )  # nobody gives the usual one a new key here
    yield machine
    bed.do("sh", "-euc", f"systemctl stop sampler; rm -rf {HOME} /etc/systemd/system/sampler.service")
    machine.configure()
    machine.setup()
    bed.do("systemctl", "restart", "keyturn")
    eventually(lambda: machine.cloud.current() in bed.read(INI), "the usual application's file has a key that lives")
    bed.do("systemctl", "start", "uploader")
    machine.picked_up(machine.cloud.current())


def tally(machine: Machine) -> dict[str, Any]:
    text = machine.bed.run("cat", TALLY).stdout
    return dict(json.loads(text)) if text else {"answered": 0, "keys": []}


def test_alibabas_sample_moves_over_rotations_without_a_restart(served: Machine) -> None:
    """`check` says what is to be mended, the remedy mends it; then the unit runs on, with each new key, under one pid.

    The key before is taken away as soon as the application has signed with the new one. No notifier, no signal; and no
    key ever is in the profile, into which the SDK would write it if it could.
    """
    since = served.cursor()
    (wrong,) = [
        one
        for one in json.loads(served.keyturn("check", "--offline", "--json").stdout)["findings"]
        if one["level"] == "error" and "would put the key into this file" in one["text"]
    ]
    served.bed.do("sh", "-euc", wrong["remedy"].strip("`"))
    served.setup()
    assert served.keyturn("check").returncode == 0, served.keyturn("check").both
    served.start()
    served.bed.do("systemctl", "start", "sampler")
    eventually(lambda: tally(served)["keys"] == [served.cloud.current()], "the sample has a key")
    started, profile = tally(served)["pid"], served.bed.read(PROFILE)
    expected = [served.cloud.current()]
    for _rotation in range(3):
        expected.append(served.cloud.rotate())
        eventually(lambda: tally(served)["keys"] == expected, "the sample signs with the new key")
        served.cloud.retire()
        answered = tally(served)["answered"]
        eventually(lambda answered=answered: tally(served)["answered"] > answered + 3, "it works on")
    said = tally(served)
    assert (said["refused"], said["pid"]) == ([], started)
    assert (
        served.show("NRestarts", "sampler.service") == "0" and int(served.show("MainPID", "sampler.service")) == started
    )
    assert served.bed.read(PROFILE) == profile and "access_key" not in profile
    assert [record["generation"] for record in served.audit("published")] == [1, 2, 3, 4] and not served.audit(
        "notified"
    )
    assert served.journal(since, "-o", "cat", "-p", "warning", unit=UNIT) in ("", "-- No entries --\n")

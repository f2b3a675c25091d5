"""A bed with keyturn on it, the emulated cloud as a unit, and an application that signs requests during everything.

    machine.configure(); machine.start(); new = machine.cloud.rotate(); machine.picked_up(new)

The application (`uploader.service`, user uploader) reads /etc/uploader/credentials.ini, which is keyturn's by owner and
the application's by group: so keyturn runs without any capability.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from agent.audit.journal_heads import MESSAGE_ID
from agent.control import client
from agent.core.errors import DaemonUnreachableError
from tests.support.processes import eventually
from tests.support.systemd.bed import Bed, Result
from tests.support.systemd.install import INSIDE, PYTHON, binds, install, site_packages

T = TypeVar("T")
PATIENCE_S = 30.0
"""How long a test waits for what must come; long, because only a broken product uses it up."""
UNIT = "keyturn.service"
DROP_IN = "systemd/system/keyturn.service.d/90-test.conf"
"""Below /etc, or below /run, which a boot empties."""
CONFIG = "/etc/keyturn/keyturn.toml"
CLIENT_KEY, PASSWORD_FILE = "/etc/keyturn/client_key.json", "/etc/keyturn/client_key_password"
INI = "/etc/uploader/credentials.ini"
TALLY = "/run/uploader/tally.json"
CLOUD = "/var/lib/cloud"

UNITS = {
    "cloud.service": f"""\
[Unit]
Description=the emulated cloud
[Service]
Type=notify
ExecStart={PYTHON} {INSIDE}/cloud.py {CLOUD}
StateDirectory=cloud
""",
    "uploader.service": f"""\
[Unit]
Description=an application that signs requests
[Service]
Type=notify
User=uploader
EnvironmentFile=/etc/uploader.environment
ExecStart={PYTHON} {INSIDE}/dependent.py {INI} $ENDPOINT /etc/ssl/cloud.pem {TALLY}
ExecReload=/bin/kill -HUP $MAINPID
RuntimeDirectory=uploader
""",
    "other.service": """\
[Unit]
Description=a unit that is none of keyturn's business
[Service]
ExecStart=/bin/sleep infinity
ExecReload=/bin/true
""",
}

RESET = f"""\
systemctl stop keyturn.service keyturn-once.timer keyturn-once.service
rm -rf /var/lib/keyturn/* /var/log/keyturn/* /run/test /etc/{DROP_IN} /run/{DROP_IN}
install -d -m 0755 /run/test
systemctl daemon-reload
systemctl reset-failed
systemctl start uploader other
"""


class Cloud:
    """The other end of `inside/cloud.py`: `cloud.rotate()`, `cloud.fault("hang", "GetSecretValue")`."""

    def __init__(self, bed: Bed) -> None:
        self._bed = bed

    def __getattr__(self, order: str) -> Callable[..., Any]:
        """Any order is a method."""
        return lambda **details: self._ask({"do": order, **details})

    def _ask(self, request: dict[str, Any]) -> Any:
        place = os.open(self._bed.root / CLOUD.lstrip("/"), os.O_PATH)
        try:
            with socket.socket(socket.AF_UNIX) as channel:
                channel.settimeout(PATIENCE_S)
                channel.connect(f"/proc/self/fd/{place}/control.sock")  # the path itself may be too long
                with channel.makefile("rw") as lines:
                    lines.write(json.dumps(request) + "\n")
                    lines.flush()
                    return json.loads(lines.readline())
        finally:
            os.close(place)

    def fault(self, fault: str, action: str = "GetSecretValue") -> None:
        """From now on calls of `action` suffer this."""
        self._ask({"do": "fault", "fault": fault, "action": action})

    def fail(self, status: int, action: str = "GetSecretValue") -> None:
        """From now on calls of `action` fail."""
        self._ask({"do": "fail", "status": status, "action": action})

    def calls(self, action: str, since: int = 0) -> list[dict[str, Any]]:
        """The calls of one action after one number."""
        return [call for call in self._ask({"do": "calls", "since": since}) if call["action"] == action]

    def failures(self, action: str) -> list[dict[str, Any]]:
        """The calls of one action that were told a 5xx."""
        return [call for call in self.calls(action) if call["status"] >= 500]

    def number(self) -> int:
        """Of the newest call."""
        return max((call["number"] for call in self._ask({"do": "calls"})), default=0)


class Machine:
    """What a test needs of a VM, in its words."""

    def __init__(self) -> None:
        """Boot, install, and start what is not keyturn."""
        self.bed = Bed(binds())
        try:
            self.bed.boot()
            self._furnish()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Leave nothing."""
        self.bed.close()

    # -- furniture ----------------------------------------------------------------------------------

    def _furnish(self) -> None:
        bed = self.bed
        install(bed)
        bed.do("useradd", "--system", "--user-group", "uploader")
        bed.do("useradd", "--system", "--user-group", "--groups=keyturn", "friend")
        bed.do("useradd", "--system", "--user-group", "stranger")
        bed.do("install", "-d", "-o", "keyturn", "-g", "uploader", "-m", "0750", "/etc/uploader")
        for name, text in UNITS.items():
            bed.write(f"/etc/systemd/system/{name}", text)
        bed.do("systemctl", "daemon-reload")
        self.start_cloud()
        self.give_client_key()
        bed.do("systemctl", "start", "other", "uploader")

    def start_cloud(self) -> None:
        """Start the emulator, and tell everybody where it is. It knows nothing from before."""
        self.bed.do("systemctl", "start", "cloud")
        self.cloud = Cloud(self.bed)
        self.endpoint: str = self.cloud.endpoint()
        self.bed.write("/etc/ssl/cloud.pem", self.bed.read(f"{CLOUD}/ca.pem"))
        self.bed.write("/etc/uploader.environment", f"ENDPOINT={self.endpoint}\n")

    def give_client_key(self) -> None:
        """The operator's part: the ClientKey and its password, for root's eyes."""
        for name, place in (("clientKey.json", CLIENT_KEY), ("clientKey_password.txt", PASSWORD_FILE)):
            self.bed.write(place, self.bed.read(f"{CLOUD}/{name}"), 0o600)

    def reset(self) -> None:
        """As if keyturn had just been installed and configured; the cloud and the application go on."""
        self.cloud.clear()
        self.give_client_key()
        self.configure()
        self.bed.do("sh", "-euc", RESET)

    # -- the config ---------------------------------------------------------------------------------

    def configure(self, *more: str, poll: str = "1s", notify: str = "", sink: str = "", agent: str = "") -> None:
        """Write the config: the uploader, told by a reload; `more` tables; `sink` more keys of its sink."""
        self.bed.write(CONFIG, "\n".join([self.agent(agent), self.uploader(poll, sink) + notify, *more]), 0o640)
        self.bed.do("chgrp", "keyturn", CONFIG)

    def agent(self, extra: str = "") -> str:
        """The tables that are not about a credential."""
        endpoints = "".join(f'{name}_endpoint = "{self.endpoint}"\n' for name in ("sts", "kms", "ram"))
        return f'[agent]\nsettle = "0s"\n{extra}\n[cloud]\nca_file = "/etc/ssl/cloud.pem"\n{endpoints}'

    def uploader(self, poll: str = "1s", sink: str = "") -> str:
        """The credential of the application."""
        return f"""\
[credentials.uploader.provider]
type = "kms_secret"
secret_name = "uploader-ak"
client_key_private_key_path = "${{CREDENTIALS_DIRECTORY}}/client_key.json"
client_key_password_from_file_path = "${{CREDENTIALS_DIRECTORY}}/client_key_password"
regions = [{{ region_id = "cn-hangzhou", endpoint = "{self.endpoint}" }}]
poll_interval = "{poll}"
[[credentials.uploader.sinks]]
type = "credentials_ini"
path = "{INI}"
owner = "keyturn"
group = "uploader"
mode = "0640"
{sink}
[[credentials.uploader.notify]]
type = "systemd"
unit = "uploader.service"
action = "reload"
"""

    def plugin(self, name: str) -> None:
        """Install `inside/NAME.py` into keyturn's environment, as a third party's provider with the class Provider."""
        place = site_packages(self.bed)
        self.bed.write(f"{place}/{name}.py", (Path(__file__).with_name("inside") / f"{name}.py").read_text())
        facts = f"{place}/{name}-1.0.dist-info"
        self.bed.write(f"{facts}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        self.bed.write(f"{facts}/entry_points.txt", f"[keyturn.providers]\n{name} = {name}:Custom\n")

    def setup(self) -> str:
        """What the operator does after writing the config: have what this host needs written."""
        done = self.keyturn("systemd-setup", "--install")
        assert done.returncode == 0, done.both
        return done.stdout

    def drop_in(self, service: str, *, kept: bool = False) -> None:
        """Lines of [Service] for this test; `kept` over a boot."""
        self.bed.write(f"{'/etc' if kept else '/run'}/{DROP_IN}", f"[Service]\n{service}\n")
        self.bed.do("systemctl", "daemon-reload")

    # -- the service --------------------------------------------------------------------------------

    def systemctl(self, *words: str, user: str = "root") -> Result:
        """Whatever comes of it."""
        return self.bed.run("systemctl", *words, user=user)

    def start(self) -> None:
        """`systemctl start`, which returns with READY."""
        started = self.systemctl("start", UNIT)
        assert started.returncode == 0, started.both + self.journal()

    def show(self, name: str, unit: str = UNIT) -> str:
        """A property of a unit."""
        return self.bed.do("systemctl", "show", "--value", f"--property={name}", unit).strip()

    @property
    def pid(self) -> int:
        """The main process, as it is called inside; 0 for none."""
        return int(self.show("MainPID"))

    def journal(self, *words: str, unit: str = UNIT) -> str:
        """The unit's journal, with what systemd says about it, of this boot."""
        self.bed.do("journalctl", "--sync")
        return self.bed.do("journalctl", "--no-pager", "-b", "-u", unit, *words)

    def entries(self, *words: str, unit: str = UNIT) -> list[dict[str, Any]]:
        """The journal's entries that keyturn itself wrote, with every field; without the heads of the audit log."""
        lines = self.journal("-o", "json", f"_SYSTEMD_UNIT={unit}", *words, unit=unit).splitlines()
        return [entry for line in lines if (entry := json.loads(line)).get("MESSAGE_ID") != MESSAGE_ID]

    def cursor(self) -> str:
        """Where the journal stands now, as an option for `journal`.

        At an entry that no filter of `journal` lets through: journalctl 252 leaves out the first match after
        --after-cursor= where the cursor's own entry does not match.
        """
        self.bed.do("systemd-cat", "--identifier=mark", "echo", "here")
        self.bed.do("journalctl", "--sync")
        last = self.bed.do("journalctl", "--identifier=mark", "-n1", "--show-cursor", "--quiet")
        return f"--cursor={last.partition('cursor: ')[2].strip()}"

    def keyturn(self, *words: str, user: str = "root") -> Result:
        """A command of an operator's."""
        done = self.bed.run("keyturn", *words, user=user)
        assert "Traceback" not in done.both, done.both
        return done

    def status(self) -> dict[str, Any]:
        """What `keyturn status --json` shows of the uploader, asked at the socket: the command takes a second to begin."""
        runtime = self.bed.root / "run/keyturn"
        # Its user is known inside the machine only, and so the one to believe is the directory's owner.
        answer, _code = client.ask(runtime, {"command": "status"}, agents={runtime.stat().st_uid})
        return dict(answer["credentials"]["uploader"])

    def told_all(self) -> bool:
        """Whether every dependent was told; not while nobody answers."""
        try:
            return not any(each["owed"] for each in self.status()["notify"])
        except DaemonUnreachableError:
            return False

    def audit(self, *events: str) -> list[dict[str, Any]]:
        """The audit log, or only its records of these events."""
        lines = self.bed.read("/var/log/keyturn/audit.jsonl").splitlines(keepends=True)
        records = [json.loads(line) for line in lines if line.endswith("\n")]
        return [record for record in records if not events or record["event"] in events]

    # -- the application ----------------------------------------------------------------------------

    def tally(self) -> dict[str, Any]:
        """What came of the application's requests since it was started."""
        return json.loads(self.bed.read(TALLY) or "{}")

    def picked_up(self, key: str) -> None:
        """Wait until the application has signed with this key and been answered."""
        eventually(lambda: self.tally().get("key") == key, f"{key} in use by the application")

    def refused(self) -> dict[str, int]:
        """The application's requests that were refused for their key, by code."""
        codes = dict(self.tally().get("refused", {}))
        return {code: count for code, count in codes.items() if not code.startswith("InvalidTimeStamp")}

"""Every provider at work in real keyturns, with the official SDKs as consumers of what they write.

The sources are the rigs of tests/conformance: one for each provider type, and each of the ways to fail once.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import providers
from tests.support.consumers import Consumers, UriServer, read_env
from tests.support.rigs import kms as rigs_kms
from tests.support.rigs import local as rigs_local
from tests.support.rigs import sessions as rigs_sessions
from tests.support.rigs.rig import FAILING, Case, Rig, World
from tests.support.vm import Daemon, Vm, eventually

pytestmark = pytest.mark.slow

NAME = "uploader"
LIFE_S = 120.0
"""Of sessions: so long that none is due in a test, so short that a retry comes within seconds."""
TRIES = 2
BEARER = "ALIBABA_CLOUD_BEARER_TOKEN"

DRAWN: dict[type[Rig], Case] = {
    rigs_kms.ByClientKey: Case.THROTTLED,
    rigs_kms.ByAccessKey: Case.WRONG_SHAPE,
    rigs_kms.Dedicated: Case.OVERSIZED,
    rigs_sessions.RamRoleArn: Case.FORBIDDEN,
    rigs_sessions.OidcRoleArn: Case.GONE,
    rigs_sessions.RsaKeyPair: Case.RESET,
    rigs_sessions.EcsRamRole: Case.HANG,
    rigs_sessions.HttpsUri: Case.UNKNOWN_CA,
    rigs_sessions.HttpUri: Case.REDIRECT,
    rigs_local.AccessKeyFiles: Case.EMPTY,
    rigs_local.StsFiles: Case.EXPIRED,
    rigs_local.BearerFile: Case.RUBBISH,
    rigs_local.Command: Case.DRIP,
    rigs_local.DefaultUri: Case.WRONG_HOST,
}
"""What befalls the source of each."""

ELSEWHERE = {"function_compute", "ram_user"}
"""What no daemon runs with (tests/function_compute), and what makes its own keys (tests/e2e/test_ram_user.py)."""

POLLED_EACH_MINUTE = (rigs_sessions.HttpUri, rigs_local.AccessKeyFiles, rigs_local.BearerFile)
"""Whose retry comes after half a minute: too long to wait for here, so these are told to look."""


@pytest.fixture(scope="module")
def consumers(vm_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Consumers]:
    """SDK programs, who trust the CA of every VM."""
    made = Consumers(vm_template / "ca.pem", tmp_path_factory.mktemp("home"))
    yield made
    made.close()


class Scene:
    """A VM with one credential, whose source is a rig."""

    def __init__(self, vm: Vm, kind: type[Rig], consumers: Consumers) -> None:
        self.vm, self.kind, self._consumers = vm, kind, consumers
        (vm.directory / "world").mkdir(mode=0o700)
        self.world = World(vm.directory / "world", vm.cloud, vm.directory, LIFE_S)
        self.rig = kind(self.world)
        vm.environ.update(self.world.environ)
        self._heard = vm.directory / "heard"
        hook = vm.hook(["/bin/sh", "-c", f"echo $KEYTURN_GENERATION >> {self._heard}"])
        vm.configure(vm.credential(NAME, provider=self.rig.table(NAME), sinks=self._tables(), notify=hook))

    def _tables(self) -> str:
        """Whatever fits the value; the Python SDK takes no session from credentials.ini."""
        if self.kind.gives == "bearer":
            return self.vm.env(NAME).replace('["alibaba_cloud"]', f'{{ {BEARER} = "bearer_token" }}')
        ini = self.vm.ini(NAME) if self.kind.gives == "key" else ""
        return ini + self.vm.env(NAME) + self.vm.json(NAME)

    def files(self) -> dict[Path, bytes]:
        """What every sink holds."""
        return {path: path.read_bytes() for path in self.vm.app.iterdir()}

    def told(self) -> list[str]:
        """The generations that the dependent was told of."""
        return self._heard.read_text().split() if self._heard.exists() else []

    def status(self) -> dict[str, Any]:
        return dict(self.vm.status()["credentials"][NAME])

    def serves(self, *, all_sinks: bool = False) -> None:
        """The stock SDKs sign a GetCallerIdentity with what a sink holds, or each, and STS knows them as the rig's owner."""
        endpoint, owner = self.vm.server.endpoint, self.rig.owner()
        env = read_env(self.vm.env_path(NAME))
        if self.kind.gives == "bearer":
            assert self._consumers.identity_of_bearer(endpoint, env[BEARER]).endswith(owner)
            return
        assert self._consumers.identity(endpoint, env).endswith(owner)
        if not all_sinks:
            return
        with UriServer(self.vm.json_path(NAME)) as served:
            by_uri = {"ALIBABA_CLOUD_CREDENTIALS_URI": served.url}
            assert self._consumers.identity(endpoint, by_uri).endswith(owner)
        if self.kind.gives == "key":
            by_file = {"ALIBABA_CLOUD_CREDENTIALS_FILE": str(self.vm.ini_path(NAME))}
            assert self._consumers.identity(endpoint, by_file).endswith(owner)

    def fails(self, daemon: Daemon, pause_s: float) -> dict[str, Any]:
        """Have the daemon look until `TRIES` looks in a row have failed, with a pause between; the status then."""
        status = self.status()
        while (failures := status["consecutive_failures"]) < TRIES:
            time.sleep(pause_s if failures else 0.0)
            daemon.signal(signal.SIGUSR1)
            status = eventually(lambda failures=failures: self._status_after(failures), "one more failure")
        return status

    def _status_after(self, failures: int) -> dict[str, Any] | None:
        status = self.status()
        return status if status["consecutive_failures"] > failures else None

    def close(self) -> None:
        self.world.close()


@pytest.fixture
def scene(vm: Vm, consumers: Consumers) -> Iterator[Callable[[type[Rig]], Scene]]:
    """Sets a scene, and clears it with the test."""
    made: list[Scene] = []

    def make(kind: type[Rig]) -> Scene:
        made.append(Scene(vm, kind, consumers))
        return made[0]

    yield make
    for each in made:
        each.rig.heal()
        each.close()


def test_every_provider_and_every_way_to_fail_is_drawn() -> None:
    """Each built-in type takes part, and each way to fail befalls one that can fail so."""
    assert {kind.type_name for kind in DRAWN} == set(providers.BUILT_IN) - ELSEWHERE
    assert set(DRAWN.values()) == set(FAILING)
    assert all(case in kind.cases() for kind, case in DRAWN.items())


@pytest.mark.parametrize(
    ("kind", "case"), DRAWN.items(), ids=[f"{k.title}: {c.name.lower()}" for k, c in DRAWN.items()]
)
def test_a_provider_from_the_first_check_to_its_recovery(
    kind: type[Rig], case: Case, scene: Callable[[type[Rig]], Scene]
) -> None:
    """`check`, `once`, the daemon, a change, a failure that leaves all files alone and is told once, and recovery."""
    here = scene(kind)
    vm, rig = here.vm, here.rig
    checked = vm.keyturn("check")
    assert checked.returncode == 0, checked.stdout
    assert here.files() == {}, "check writes nothing"
    assert vm.keyturn("once").returncode == 0
    assert here.told() == ["1"]
    here.serves()

    daemon = vm.daemon().ready()
    before = here.files()
    if kind.gives == "bearer":  # it has no id: that the source changed it is known to who has seen the one before
        assert vm.keyturn("refresh").returncode == 0
    rig.change()
    daemon.signal(signal.SIGUSR1)
    eventually(lambda: here.told() == ["1", "2"])
    assert all(before[path] != content for path, content in here.files().items())
    here.serves(all_sinks=True)

    good = here.files()
    rig.suffer(case)
    status = here.fails(daemon, 1.0 if case is Case.EXPIRED else 0.0)  # that error tells the time, to the second
    assert (status["state"], status["generation"]) == ("failing", 2)
    assert f"credentials.{NAME}" in status["last_error"]
    assert "; " in status["last_error"], "the remedy"
    assert here.files() == good
    failed = vm.audit("fetch_failed")
    assert len(failed) == 1, [record["error"] for record in failed]
    checked = vm.keyturn("check")
    assert checked.returncode != 0
    assert f"credentials.{NAME}.provider" in checked.stdout
    assert here.files() == good

    rig.heal()
    if kind in POLLED_EACH_MINUTE:
        daemon.signal(signal.SIGUSR1)
    eventually(lambda: vm.audit("recovered"))
    assert len(vm.audit("fetch_failed")) == 1
    eventually(lambda: here.status()["state"] == "fresh")
    here.serves()
    assert daemon.stop() == 0
    assert vm.keyturn("audit", "verify").returncode == 0

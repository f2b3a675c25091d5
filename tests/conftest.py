"""The worlds that tests ask for by name, and what holds for all tests; tests/support/README.md says which world is what."""

from __future__ import annotations

import itertools
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, settings

from tests.support import canaries
from tests.support import golden as golden_file
from tests.support.bench import Bench
from tests.support.canaries import Listener, listening
from tests.support.station import Station
from tests.support.vm import Vm, Zygote, make_template

for ignored in (
    signal.SIGHUP,
    signal.SIGQUIT,
):  # by nohup(1), or a shell's `&`; every process of a test would ignore them, too
    signal.signal(ignored, signal.SIG_DFL)

# The same examples in every run, and none that fails because the machine was busy: a landing is not refused by luck.
settings.register_profile("keyturn", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("keyturn")

LONG = ("crash", "faults", "systemd", "packaging", "shipping", "browser", "bench")
"""Folders whose tests are marked with their names, and left out by `make test`."""
WAITING = ("demo", "e2e", "faults")
"""Folders whose tests wait for real processes most of their time."""


def pytest_configure() -> None:
    """Take SIGINT again where a shell that runs this in the background ignores it: commands that we end by it would go on."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--renew`: see tests/support/golden.py and tests/browser/test_status_page.py."""
    parser.addoption("--renew", action="store_true", help="write tests/golden/messages.txt, or pictures, anew")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of the folders that take long, and those that hold sentences against the golden file; order all."""
    for item in items:
        folder = item.path.relative_to(Path(__file__).parent).parts[0]
        if folder in LONG:
            item.add_marker(folder)
        if "golden" in getattr(item, "fixturenames", ()):
            item.add_marker("golden")
    spread(items)


def spread(items: list[pytest.Item]) -> None:
    """Put the files whose tests wait for processes evenly between those that compute: so the processor is never idle for long."""
    files = [list(tests) for _file, tests in itertools.groupby(items, key=lambda item: item.path)]
    placed: list[tuple[float, list[pytest.Item]]] = []
    for waits in (True, False):
        chosen = [tests for tests in files if (tests[0].path.parent.name in WAITING) is waits]
        total, before = sum(map(len, chosen)), 0
        for tests in chosen:
            placed.append(((before + len(tests) / 2) / total, tests))
            before += len(tests)
    items[:] = [item for _place, tests in sorted(placed, key=lambda one: one[0]) for item in tests]


@pytest.fixture(autouse=True)
def log_as_it_was() -> Iterator[None]:
    """A test that sets the log up leaves it to the next one as it found it: the tests run in any order."""
    before = structlog.get_config() if structlog.is_configured() else None
    yield
    if before is None:
        structlog.reset_defaults()
    else:
        structlog.configure(**before)


@pytest.fixture(scope="session")
def vm_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One CA and one RSA key for the whole session."""
    return make_template(tmp_path_factory.mktemp("template"))


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    """Where commands come from."""
    started = Zygote()
    yield started
    started.close()


@pytest.fixture
def make_vm(tmp_path: Path, vm_template: Path, zygote: Zygote) -> Iterator[Callable[..., Vm]]:
    """Makes VMs that end with the test, with every process on them."""
    made: list[Vm] = []

    def make(name: str = "vm") -> Vm:
        made.append(Vm(tmp_path / name, vm_template, zygote))
        return made[-1]

    yield make
    for vm in made:
        vm.close()


@pytest.fixture
def vm(make_vm: Callable[..., Vm]) -> Vm:
    """One VM."""
    return make_vm()


@pytest.fixture
def public_path() -> Iterator[Path]:
    """A directory that every user may enter: pytest keeps its own for itself, again at each of its starts."""
    directory = Path(tempfile.mkdtemp(prefix="keyturn-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def public_vm(public_path: Path, vm_template: Path, zygote: Zygote) -> Iterator[Vm]:
    """A VM whose directory every user may enter."""
    vm = Vm(public_path / "vm", vm_template, zygote)
    yield vm
    vm.close()


@pytest.fixture
def station(vm: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Station]:
    """A VM whose credential `uploader` may be rotated by the user `ops`, with two dependents."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    made = Station(vm)
    yield made
    made.stop()


@pytest.fixture
def make_bench(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    """Makes engines; the next one made in the same test finds the state of the one before."""
    made: list[Bench] = []

    def make(**options: Any) -> Bench:
        if made:
            made[-1].audit.close()  # its process is gone, and its lock with it
        made.append(Bench(tmp_path, made[-1].clock if made else None, **options))
        return made[-1]

    yield make
    for bench in made:
        bench.close()


@pytest.fixture
def bench(make_bench: Callable[..., Bench]) -> Bench:
    """One engine."""
    return make_bench()


@pytest.fixture
def listener() -> Iterator[Listener]:
    """Hears every logger at DEBUG while the test runs."""
    with listening() as made:
        yield made


@pytest.fixture
def shown() -> Callable[[BaseException], str]:
    """Everything that printing an error could show."""
    return canaries.shown


@pytest.fixture
def golden(pytestconfig: pytest.Config) -> golden_file.Golden:
    """Holds what is said of mistakes against tests/golden/messages.txt."""
    return lambda part, said: golden_file.compare(part, said, pytestconfig.getoption("renew"))

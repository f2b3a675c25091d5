"""The house rules that a reader cannot see in one file: who may import whom, and who may touch what.

A failure names the rule, the file, the line and the way out.
"""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted([*ROOT.glob("agent/**/*.py"), *ROOT.glob("providers/**/*.py")])

EVERYBODY = {"agent.core", "agent.system", "agent.logs", "agent.__version__"}
LEAVES = {"agent.cloud", "agent.config", "agent.state", "agent.audit", "agent.sinks", "agent.notifiers"}
KNOWS = {
    "agent.core": set(),
    "agent.system": {"agent.core"},
    "agent.logs": {"agent.core", "agent.system"},
    # strangers to each other
    "agent.http": EVERYBODY,
    "agent.cloud": EVERYBODY,
    "agent.config": EVERYBODY,
    "agent.state": EVERYBODY,
    "agent.audit": EVERYBODY,
    "agent.runtime": EVERYBODY,
    "agent.control": EVERYBODY,
    "agent.sinks": EVERYBODY | {"agent.sinks.transaction"},
    "agent.sinks.formats": EVERYBODY | {"agent.sinks"},
    "agent.sinks.transaction": EVERYBODY | {"agent.sinks", "agent.sinks.formats"},
    "agent.notifiers": EVERYBODY | {"agent.cloud"},
    # one refresh, then who is told, then when
    "agent.refresh": EVERYBODY | LEAVES - {"agent.config"} | {"agent.sinks.transaction"},
    "agent.dispatch": EVERYBODY | {"agent.audit", "agent.notifiers", "agent.refresh", "agent.runtime", "agent.state"},
    "agent.engine": EVERYBODY
    | {"agent.audit", "agent.dispatch", "agent.notifiers", "agent.refresh", "agent.runtime", "agent.sinks", "agent.state"},
    # built on the engine, strangers to each other
    "agent.ram_rotation": EVERYBODY
    | {"agent.audit", "agent.cloud", "agent.engine", "agent.notifiers", "agent.runtime", "agent.sinks", "agent.state"},
    "agent.emergency": EVERYBODY
    | {"agent.ram_rotation", "agent.audit", "agent.cloud", "agent.engine", "agent.notifiers", "agent.runtime", "agent.state"},
    "agent.fleet": EVERYBODY | {"agent.audit", "agent.cloud", "agent.engine", "agent.runtime"},
    "agent.canary": EVERYBODY | {"agent.audit", "agent.cloud", "agent.engine", "agent.runtime", "agent.sinks"},
    "agent.metrics": EVERYBODY | {"agent.engine", "agent.http", "agent.refresh"},
    "agent.serving": EVERYBODY | {"agent.audit", "agent.engine", "agent.sinks"},
    "agent.endpoint": EVERYBODY
    | {"agent.http", "agent.serving", "agent.sinks", "agent.sinks.formats", "agent.sinks.transaction"},
    "agent.systemd_setup": EVERYBODY | {"agent.notifiers"},
    "agent.first_config": EVERYBODY | {"agent.notifiers"},
    "agent.ram_policy": EVERYBODY | {"providers", "providers.kms"},
    "agent.evidence": EVERYBODY | {"agent.audit"},
    # what puts everything together, and the commands
    "agent.app": EVERYBODY | LEAVES | {
        "agent.sinks.formats", "agent.sinks.transaction", "agent.refresh", "agent.dispatch", "agent.engine", "agent.runtime",
        "agent.canary", "agent.fleet", "agent.ram_rotation",
        "agent.emergency", "agent.endpoint", "agent.control", "agent.metrics", "agent.serving", "agent.systemd_setup",
        "providers",
    },
    "agent.demo": EVERYBODY | {"agent.cloud"},
    "agent.drill": EVERYBODY | {
        "agent.app", "agent.emergency", "agent.notifiers", "agent.sinks", "agent.sinks.transaction", "agent.state",
        "providers", "providers.kms", "providers.emulator",
    },
    "agent.cli": EVERYBODY | {
        "agent.app", "agent.audit", "agent.control", "agent.demo", "agent.drill", "agent.emergency", "agent.evidence",
        "agent.fleet", "agent.first_config", "agent.notifiers", "agent.state",
        "agent.systemd_setup",
        "agent.config", "agent.ram_policy", "agent.serving", "agent.sinks", "providers.emulator",
    },
    "agent.__main__": {"agent.cli"},
    "providers": {"agent.core", "agent.system", "agent.cloud"},
    "providers.kms": {"agent.core", "agent.system", "agent.cloud", "providers"},
    "providers.emulator": set(),
}  # fmt: skip
"""Which folder's modules may import which: a folder that is not named here knows nobody.

Read from the bottom up it is the order of floors: core, system and logs; the leaves, strangers to each other; one refresh;
who is told; when; what is built on the engine; the application; the command line.
"""


def module_of(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def folder_of(module):
    """The folder of KNOWS that a module belongs to, the deepest; None where it has none."""
    parts = module.split(".")
    heads = [".".join(parts[:length]) for length in range(len(parts), 0, -1)]
    return next((head for head in heads if head in KNOWS or head == "agent.__version__"), None)


def imports(path):
    """Every import of a file with its line, those inside functions included; relative ones resolved."""
    package = module_of(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            target = ".".join(filter(None, [base, node.module or ""]))
            yield from ((f"{target}.{alias.name}", node.lineno) for alias in node.names)


def complaint(path, line, what, way_out):
    return f"{path.relative_to(ROOT)}:{line}: {what}; {way_out}"


def wrong_import(path, target):
    """Why a file may not import a module; None where it may."""
    own, other = folder_of(module_of(path)), folder_of(target)
    if other is None or other == own or other in KNOWS.get(own, set()):
        return None
    return f"{own} does not know {other}"


def test_every_module_has_a_folder_with_rules():
    """A new folder is given its place in KNOWS; only `agent` itself has none."""
    homeless = [module_of(path) for path in FILES if folder_of(module_of(path)) is None]
    assert homeless == ["agent"]


def test_folders_know_only_those_below_them():
    """KNOWS holds, imports inside functions included."""
    wrong = [
        complaint(
            path, line, f"imports {target}, but {why}", "move the code down, or hand it in from agent/app/wiring.py"
        )
        for path in FILES
        for target, line in imports(path)
        if (why := wrong_import(path, target))
    ]
    assert not wrong, "\n".join(wrong)


def test_no_folder_is_above_and_below_another():
    """KNOWS itself has no circle, but for sinks and their transaction, which are one family."""
    family = {"agent.sinks", "agent.sinks.formats", "agent.sinks.transaction"}
    below = {name: {one for one in known if not {name, one} <= family} for name, known in KNOWS.items()}
    while below:
        floor = [name for name, known in below.items() if not known & below.keys()]
        assert floor, f"a circle among {sorted(below)}"
        below = {name: known for name, known in below.items() if name not in floor}


def test_no_module_imports_itself_through_others():
    """No import circle between modules, those of functions included."""
    modules = {module_of(path): path for path in FILES}

    def module_named(target):
        return target if target in modules else target.rpartition(".")[0]

    ahead = {
        name: {found for target, _line in imports(path) if (found := module_named(target)) in modules and found != name}
        for name, path in modules.items()
    }
    while ahead:
        ends = [name for name, known in ahead.items() if not known & ahead.keys()]
        assert ends, f"an import circle among {sorted(ahead)}; move what both need into a module below them"
        ahead = {name: known for name, known in ahead.items() if name not in ends}


def test_core_is_the_standard_library_only():
    """Values and rules depend on nothing that must be installed, and do no I/O."""
    allowed = {
        "__future__", "abc", "agent", "collections", "contextlib", "contextvars", "dataclasses", "datetime", "enum",
        "difflib", "hmac", "re", "typing",
    }  # fmt: skip
    wrong = [
        complaint(path, line, f"imports {target}", "keep I/O and libraries out of agent/core")
        for path in FILES
        if module_of(path).startswith("agent.core")
        for target, line in imports(path)
        if target.split(".")[0] not in allowed
    ]
    assert not wrong, "\n".join(wrong)


def test_only_one_file_imports_the_official_client():
    """The traps of the official client are dealt with in one file."""
    official = ("alibaba_cloud_secretsmanager_client", "aliyunsdkcore", "aliyunsdkkms")
    users = {path.name for path in FILES for target, _line in imports(path) if target.startswith(official)}
    assert users == {"official_sdk.py"}


def test_the_generated_sdks_are_for_tests_only():
    """The SDKs of STS, KMS and RAM and their runtime are the tests' judges: keyturn sends its own calls.

    The default chain's library is loaded by name, in a process of its own (providers/default_child.py).
    """
    generated = ("alibabacloud_", "Tea", "darabonba")
    wrong = [
        complaint(path, line, f"imports {target}", "add the call to agent/cloud/openapi.py")
        for path in FILES
        for target, line in imports(path)
        if target.startswith(generated)
    ]
    assert not wrong, "\n".join(wrong)


def test_two_files_stand_in_for_modules():
    """What is put into `sys.modules` meets every other user of a library in the process."""
    assert {path.name for path in FILES if "sys.modules" in path.read_text()} == {"http_library.py", "official_sdk.py"}


def test_requests_is_imported_in_one_place():
    """Imported elsewhere first, it brings what agent/cloud/http_library.py leaves out."""
    wrong = [
        complaint(path, line, f"imports {target}", "take `requests` from agent.cloud.http_library")
        for path in FILES
        if path.name != "http_library.py"
        for target, line in imports(path)
        if target.split(".")[0] == "requests"
    ]
    assert not wrong, "\n".join(wrong)


DOORS = {
    "processes": (
        {"subprocess.run", "subprocess.Popen", "os.fork", "os.kill", "os.killpg", "os.system", "signal.pidfd_send_signal"},
        ("agent/system/", "agent/demo/"),
        "go through agent/system/process.py",
    ),
    "the wall clock": (
        {"time.time", "datetime.now", "datetime.utcnow", "datetime.today"},
        ("agent/system/", "agent/runtime/scheduler.py", "agent/demo/", "providers/emulator/"),
        "take the time as an argument, or ask agent/system/clock.py",
    ),
    "names and rights in the file system": (
        {"os.open", "os.rename", "os.replace", "os.chmod", "os.chown", "os.unlink", "os.link", "os.symlink", "open"},
        # sinks: every step of a transaction is named there; audit: an append-only log; control: its socket;
        # cli: /dev/null for a broken pipe.
        # cli/credential: must not load the doors; it reads the config alone.
        ("agent/system/", "agent/sinks/", "agent/audit/", "agent/control/", "agent/config/load.py", "agent/cli/main.py",
         "agent/cli/credential.py",
         "agent/demo/", "providers/emulator/"),
        "go through agent/system/files.py",
    ),
}  # fmt: skip


def called(node):
    function = node.func
    if isinstance(function, ast.Name):
        return function.id
    if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
        return f"{function.value.id}.{function.attr}"
    return ""


@pytest.mark.parametrize("door", DOORS)
def test_one_door_per_facility(door):
    """What the operating system does for us is asked for in one place, where its traps are dealt with."""
    names, homes, way_out = DOORS[door]
    wrong = [
        complaint(path, node.lineno, f"calls {called(node)} past the door to {door}", way_out)
        for path in FILES
        if not str(path.relative_to(ROOT)).startswith(homes)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and called(node) in names
    ]
    assert not wrong, "\n".join(wrong)


OWNED = ("agent/refresh/", "agent/dispatch/", "agent/engine/", "agent/state/", "agent/app/", "agent/control/")
WRITES_ELSEWHERE = {
    "agent/engine/attempts.py": {"other._futures"},  # of its own class
    "agent/state/notification_ledger.py": {"debt.attempts", "debt.since"},  # it owns its debts
}
"""Attributes of another object that a file sets, and why it may."""


def assigned(tree):
    """Every attribute that is set, deleted or added to, whosever it is, with its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store | ast.Del):
            yield ast.unparse(node), node.lineno


def test_state_is_changed_by_its_owner_alone():
    """No module reaches into another object to set what it remembers: it asks for it by a method's name."""
    wrong = [
        complaint(path, line, f"sets {target}", "give the owner a method that says what happened")
        for path in FILES
        if (place := str(path.relative_to(ROOT))).startswith(OWNED)
        for target, line in assigned(ast.parse(path.read_text()))
        if not target.startswith(("self.", "cls.")) or target.count(".") > 1
        if target not in WRITES_ELSEWHERE.get(place, set())
    ]
    assert not wrong, "\n".join(wrong)


def test_the_engine_is_closed():
    """What it consists of is its own business: outside are methods, and the clock that everybody goes by."""
    (engine,) = [
        node
        for node in ast.walk(ast.parse((ROOT / "agent/engine/engine.py").read_text()))
        if isinstance(node, ast.ClassDef) and node.name == "Engine"
    ]
    attributes = {target for target, _line in assigned(engine) if not target.startswith("self._")}
    properties = {
        node.name
        for node in engine.body
        if isinstance(node, ast.FunctionDef) and any(ast.unparse(one) == "property" for one in node.decorator_list)
    }
    assert (attributes, properties) == (set(), {"clock"})


REVEALERS = {
    "agent/cloud/acs3.py": 2,  # signs, and sends the session token
    "agent/cloud/openapi.py": 1,  # the OIDC token, in the body of AssumeRoleWithOIDC
    "agent/core/credential.py": 1,  # part(): what sinks render
    "agent/core/secret.py": 1,  # the definition
    "agent/fleet/entries.py": 1,  # the key of a host's proof
    "agent/sinks/formats/credentials_uri.py": 2,  # the endpoint's token: into the file, and to the log's masks
    "providers/kms/client_key.py": 2,  # opens the PKCS#12, and tells by a keyed hash whether it was opened already
    "providers/ecs_ram_role.py": 1,  # the metadata service's token, in its header
}


def test_secrets_are_revealed_in_a_handful_of_places():
    """Each `.reveal()` is known here by file and number: a new one is a decision, not a slip."""
    found = {
        str(path.relative_to(ROOT)): count
        for path in FILES
        if (count := path.read_text().count(".reveal()")) and "emulator" not in path.parts
    }
    assert found == REVEALERS


MAX_LINES = 420


def test_files_stay_readable():
    """A longer module holds more than one idea."""
    assert {path.name: n for path in FILES if (n := len(path.read_text().splitlines())) > MAX_LINES} == {}


def test_one_palette():
    """No module but agent/system/terminal.py writes an escape to a terminal: `paint` and `cleared` know where there is one."""
    escape = re.compile(r"\\(?:x1b|033|u001b|e)\[|\x1b", re.I)
    writers = [str(path.relative_to(ROOT)) for path in FILES if escape.search(path.read_text())]
    assert writers == ["agent/system/terminal.py"]


def test_tests_share_through_their_support_alone():
    """No test changes sys.path, and none imports another test: what two share lies in tests/support (its README)."""
    paths = [path for path in ROOT.glob("tests/**/*.py") if path != Path(__file__)]
    assert [str(path) for path in paths if "sys.path.insert" in path.read_text()] == []
    borrowed = [(path.name, name) for path in paths for name, _line in imports(path) if ".test_" in f".{name}"]
    assert borrowed == []


def test_nothing_is_left_unfinished():
    """No marker of unfinished work, and no package index host, in what is committed."""
    words = ["TO" + "DO", "FIX" + "ME", "NotImplemented" + "Error", "py" + "pi.org", "python" + "hosted"]
    listed = [*FILES, *ROOT.glob("requirements/*"), *ROOT.glob("docs/*.md"), *ROOT.glob("*.md"), ROOT / "Makefile"]
    assert [(path.name, word) for path in listed for word in words if word in path.read_text()] == []

"""The house rules that a reader cannot see in one file: who may import whom, and who may touch what.

A failure names the rule, the file, the line and the way out.
"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted([*ROOT.glob("agent/**/*.py"), *ROOT.glob("providers/**/*.py")])

LAYERS = [
    ["agent.core"],
    ["agent.system"],
    ["agent.cloud", "agent.logs"],
    ["agent.sinks", "agent.notifiers", "agent.audit", "agent.state", "agent.config"],
    ["agent.refresh", "agent.runtime", "agent.dispatch", "agent.engine", "agent.emergency", "agent.control", "agent.metrics",
     "agent.systemd_setup"],
    ["agent.app", "agent.cli", "agent.demo", "agent.__main__"],
]  # fmt: skip
STRANGERS = {3}
"""Layers whose members do not know each other; those of the others may."""
FOR_PROVIDERS = ("agent.core", "agent.system", "agent.cloud")


def module_of(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def place(module):
    """The layer's number and the member that a module belongs to."""
    for number, members in enumerate(LAYERS):
        for member in members:
            if module == member or module.startswith(member + "."):
                return number, member
    return None


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
    source = module_of(path)
    if source.startswith("providers"):
        if source.startswith("providers.emulator"):
            return "the emulator knows nothing of the agent" if target.startswith("agent") else None
        foreign = target.startswith("agent.") and not target.startswith(FOR_PROVIDERS)
        return "a provider knows agent.core, agent.system and agent.cloud only" if foreign else None
    own, other = place(source), place(target)
    if target.startswith("providers") and own and own[0] < len(LAYERS) - 1:
        return "only wiring and the command line know the providers"
    if own is None or other is None:
        return None
    if other[0] > own[0]:
        return f"{own[1]} lies below {other[1]}"
    if own[0] == other[0] and own[0] in STRANGERS and own[1] != other[1]:
        return f"{own[1]} and {other[1]} do not know each other"
    return None


def test_every_module_has_a_layer():
    """A new module is given its place in LAYERS, so that the rule holds for it."""
    assert [module_of(path) for path in FILES if path.parts[-2:] != ("agent", "__init__.py")
            and module_of(path).startswith("agent.") and place(module_of(path)) is None] == []  # fmt: skip


def test_imports_point_one_way():
    """Each layer knows those below it only, imports inside functions included."""
    wrong = [
        complaint(
            path, line, f"imports {target}, but {why}", "move the code down, or hand it in from agent/app/wiring.py"
        )
        for path in FILES
        for target, line in imports(path)
        if (why := wrong_import(path, target))
    ]
    assert not wrong, "\n".join(wrong)


def test_core_is_the_standard_library_only():
    """Values and rules depend on nothing that must be installed, and do no I/O."""
    allowed = {
        "__future__", "abc", "agent", "collections", "contextlib", "contextvars", "dataclasses", "datetime", "enum",
        "hmac", "re", "typing",
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
        ("agent/system/", "agent/sinks/", "agent/audit/", "agent/control/", "agent/config/load.py", "agent/cli/main.py",
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


REVEALERS = {
    "agent/cloud/acs3.py": 2,  # signs, and sends the session token
    "agent/core/credential.py": 1,  # part(): what sinks render
    "agent/core/secret.py": 1,  # the definition
    "providers/kms/client_key.py": 1,  # opens the PKCS#12
    "providers/ecs_ram_role.py": 1,  # the metadata service's token, in its header
    "providers/kms/shared_gateway.py": 1,  # hands the private key to the official signer
    "providers/oidc_role_arn.py": 1,  # hands the OIDC token to the SDK's request
}


def test_secrets_are_revealed_in_a_handful_of_places():
    """Each `.reveal()` is known here by file and number: a new one is a decision, not a slip."""
    found = {
        str(path.relative_to(ROOT)): count
        for path in FILES
        if (count := path.read_text().count(".reveal()")) and "emulator" not in path.parts
    }
    assert found == REVEALERS


def test_files_stay_readable():
    """A module of more than 400 lines is more than one idea."""
    long = {str(path.relative_to(ROOT)): n for path in FILES if (n := len(path.read_text().splitlines())) > 420}
    assert not long


def test_nothing_is_left_unfinished():
    """No marker of unfinished work, and no package index host, in what is committed."""
    words = ["TO" + "DO", "FIX" + "ME", "NotImplemented" + "Error", "py" + "pi.org", "python" + "hosted"]
    listed = [*FILES, *ROOT.glob("requirements/*"), *ROOT.glob("docs/*.md"), *ROOT.glob("*.md"), ROOT / "Makefile"]
    assert [(path.name, word) for path in listed for word in words if word in path.read_text()] == []

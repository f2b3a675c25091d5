"""A small world to crash in: credentials with sinks of every way of writing, dependents, and inspectors.

What must hold is written down here a second time, by hand and without a line of the product's code: what each sink
holds for each value, byte for byte, who owns it, and what the audit log may say.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
OWNER = 23001 if os.geteuid() == 0 else os.geteuid()
GROUP = 23001 if os.geteuid() == 0 else os.getegid()
LINK = "set/current"
"""Where the `directory` sink of `gamma` is, below the root."""
KEEP = 2
ENDS = ("published", "drift_repaired", "publish_recovered")
IDS = re.compile(rb"LTAI[abg][0-9]{6}")

TELL = """\
#!/bin/sh
# What a dependent does: it looks at its files, and remembers what it was told and what it saw.
name=$1; shift
seen=$(cat "$@" 2>/dev/null | grep -oE 'LTAI[abg][0-9]{6}' | sort -u | tr '\\n' ',')
echo "$KEYTURN_CREDENTIAL $KEYTURN_GENERATION $KEYTURN_ACCESS_KEY_ID $seen" >> "$name"
"""


def access_key_id(credential: str, number: int) -> str:
    return f"LTAI{credential[0]}{number:06}"


def secret_of(identifier: str) -> str:
    """The secret that belongs to an id: a mixed pair is seen without knowing what was published. Lengths differ."""
    digest = hashlib.sha256(identifier.encode()).hexdigest()
    return digest[: 24 + int(identifier[-1]) * 3]


@dataclass(frozen=True)
class Sink:
    """A file of a credential, and who may have it."""

    credential: str
    type: str
    path: str  # below the root
    mode: int
    extra: str = ""

    @property
    def in_place(self) -> bool:
        return "in_place" in self.extra

    def holds(self, identifier: str) -> bytes:
        """The whole content of the file for a key, with the lines that are not ours."""
        secret = secret_of(identifier)
        foreign = "" if self in MEMBERS else "KEPT=1\n"
        if self.type == "credentials_ini":
            ours = f"enable = true\ntype = access_key\naccess_key_id = {identifier}\naccess_key_secret = {secret}\n"
            return f"# kept\n[default]\n{ours}".encode()
        if self.type == "env_file":
            names = ("ALIBABA_CLOUD_ACCESS_KEY_ID", "ALIBABA_CLOUD_ACCESS_KEY_SECRET")
            return f"{foreign}{names[0]}={identifier}\n{names[1]}={secret}\n".encode()
        answer = {"Code": "Success", "AccessKeyId": identifier, "AccessKeySecret": secret, "SecurityToken": ""}
        return json.dumps({**answer, "Expiration": "2099-12-31T23:59:59Z"}, indent=2).encode() + b"\n"

    def before(self) -> bytes | None:
        """What stands there before keyturn comes."""
        return {"credentials_ini": b"# kept\n[default]\n", "env_file": b"KEPT=1\n", "json": None}[self.type]


SINKS = (
    Sink("alpha", "credentials_ini", "etc/alpha.ini", 0o600),
    Sink("alpha", "env_file", "env/alpha.env", 0o640),
    Sink("alpha", "json", "place/alpha.json", 0o600, 'write = "in_place"\n'),
    Sink("beta", "env_file", "env/beta.env", 0o600),
    Sink("beta", "credentials_ini", "etc/beta.ini", 0o640),
)
MEMBERS = (Sink("gamma", "env_file", "app.env", 0o640), Sink("gamma", "json", "app.json", 0o640))
"""The files of the `directory` sink, which belong to keyturn whole: no foreign line."""
NOTIFIERS = (("alpha", "near", 0), ("alpha", "far", 1), ("beta", "other", 0), ("gamma", "third", 0))


@dataclass
class Findings:
    """What an inspection found; every list is to be empty."""

    torn: list[str] = field(default_factory=list)
    mixed: list[str] = field(default_factory=list)
    attributes: list[str] = field(default_factory=list)
    readable: list[str] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    other: list[str] = field(default_factory=list)

    def add(self, found: Findings) -> None:
        for name, entries in vars(found).items():
            getattr(self, name).extend(entries)

    def figures(self) -> dict[str, int]:
        return {name: len(entries) for name, entries in vars(self).items()}

    @property
    def clean(self) -> bool:
        return not any(vars(self).values())


class World:
    """The files; `root` may be moved aside and made anew, everything else stays.

    Args:
        directory: of everything.
        linked: have a third credential, with a `directory` sink, which the model of a power cut does not know.
        volatile: directories below the root whose content a power cut takes, as of a tmpfs.
    """

    def __init__(self, directory: Path, *, linked: bool = True, volatile: Sequence[str] = ()) -> None:
        self.credentials = ("alpha", "beta", "gamma") if linked else ("alpha", "beta")
        self.volatile = volatile
        directory.mkdir(mode=0o755, exist_ok=True)
        directory.chmod(0o755)
        self.directory, self.root = directory, directory / "live"
        self.heard, self.log = directory / "heard", directory / "keyturn.log"
        self.config, self._tell = directory / "keyturn.toml", directory / "tell.sh"
        self.audit_path = self.root / "log" / "audit.jsonl"
        self.environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
        self._surgeon: subprocess.Popen[str] | None = None
        self.heard.mkdir(exist_ok=True)
        self._tell.write_text(TELL)
        self._tell.chmod(0o755)
        self._write_config()

    @property
    def dependents(self) -> list[str]:
        """Who is told of a publish of all credentials."""
        return [who for credential, who, _order in NOTIFIERS if credential in self.credentials]

    # -- the files ----------------------------------------------------------------------------------

    def make_root(self) -> None:
        """Directories and foreign lines, as an operator leaves them for the first start."""
        self.root.mkdir(exist_ok=True)
        for name in ("etc", "env", "place", "log", "set"):
            (self.root / name).mkdir(mode=0o755)
        for sink in SINKS:
            content = sink.before()
            if content is not None:
                path = self.root / sink.path
                path.write_bytes(content)
                path.chmod(sink.mode)
                os.chown(path, OWNER, GROUP)

    def save(self, name: str) -> None:
        """Keep a copy of the root, and of what was heard."""
        for source in (self.root, self.heard):
            _copy(source, self.directory / f"{name}.{source.name}")

    def restore(self, name: str) -> None:
        """Put the copy back."""
        for source in (self.root, self.heard):
            _copy(self.directory / f"{name}.{source.name}", source)
        self.log.unlink(missing_ok=True)

    def source(self, number: int | None) -> None:
        """What the sources give out from now on; None: they are down."""
        for credential in self.credentials:
            path = self.directory / f"{credential}.source"
            if number is None:
                path.unlink(missing_ok=True)
                continue
            identifier = access_key_id(credential, number)
            answer = {"mode": "AK", "access_key_id": identifier, "access_key_secret": secret_of(identifier)}
            path.with_suffix(".new").write_text(json.dumps(answer))
            path.with_suffix(".new").rename(path)

    def _write_config(self) -> None:
        agent = (
            f'[agent]\nstate_directory = "{self.root}/state"\nruntime_directory = "{self.directory}/run"\n'
            f'settle = "0s"\nlog_level = "debug"\n[agent.audit]\npath = "{self.audit_path}"\n'
        )
        self.config.write_text(agent + "".join(self._credential(name) for name in self.credentials))

    def _credential(self, name: str) -> str:
        source = self.directory / f"{name}.source"
        lines = [f'[credentials.{name}]\nverify = "off"\n[credentials.{name}.provider]\ntype = "process"']
        lines.append(f'command = ["/bin/cat", "{source}"]\n')
        for sink in (each for each in SINKS if each.credential == name):
            attributes = f'owner = "{OWNER}"\ngroup = "{GROUP}"\nmode = "{sink.mode:04o}"\n'
            preset = 'variables = ["alibaba_cloud"]\n' if sink.type == "env_file" else ""
            head = f'[[credentials.{name}.sinks]]\ntype = "{sink.type}"\npath = "{self.root / sink.path}"\n'
            lines.append(head + attributes + preset + sink.extra)
        files = [str(self.root / sink.path) for sink in SINKS if sink.credential == name]
        if name == "gamma":
            lines.append(self._directory_sink())
            files = [str(self.root / LINK / member.path) for member in MEMBERS]
        for _credential, who, order in (each for each in NOTIFIERS if each[0] == name):
            command = json.dumps([str(self._tell), str(self.heard / who), *files])
            lines.append(f'[[credentials.{name}.notify]]\ntype = "exec"\norder = {order}\ncommand = {command}\n')
        return "\n".join(lines)

    def _directory_sink(self) -> str:
        env = '{ type = "env_file", name = "app.env", variables = ["alibaba_cloud"] }'
        return (
            f'[[credentials.gamma.sinks]]\ntype = "directory"\npath = "{self.root / LINK}"\nkeep = {KEEP}\n'
            f'owner = "{OWNER}"\ngroup = "{GROUP}"\nmode = "0640"\n'
            f'files = [{env}, {{ type = "json", name = "app.json" }}]\n'
        )

    # -- keyturn ------------------------------------------------------------------------------------

    def ask(self, request: dict[str, Any]) -> None:
        """Send a request to the surgeon (surgeon.py), which is started with the first one."""
        if self._surgeon is None:
            self._surgeon = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("surgeon.py"))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**self.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            )
            self.answer()
        assert self._surgeon.stdin is not None
        common = {"root": str(self.root), "heard": str(self.heard), "log": str(self.log), "environ": self.environ}
        self._surgeon.stdin.write(json.dumps({**common, **request}) + "\n")
        self._surgeon.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """The surgeon's next answer."""
        assert self._surgeon is not None and self._surgeon.stdout is not None
        line = self._surgeon.stdout.readline()
        assert line, f"the surgeon died; its patients said: {self.said()}"
        return dict(json.loads(line))

    def keyturn(self, *arguments: str, **request: Any) -> dict[str, Any]:
        """Run a command to its end, and its hooks to theirs."""
        self.ask({"arguments": ["--config", str(self.config), *arguments], **request})
        return self.answer()

    def once(self, **request: Any) -> int:
        """`keyturn once`; its exit status, or the negative number of the signal that ended it."""
        return int(self.keyturn("once", "--retry-for", "0s", **request)["ended"])

    def said(self) -> str:
        return self.log.read_text()[-4000:] if self.log.exists() else ""

    def close(self) -> None:
        if self._surgeon is not None:
            assert self._surgeon.stdin is not None
            self._surgeon.stdin.close()
            self._surgeon.wait(30)

    # -- inspectors ---------------------------------------------------------------------------------

    def look(self, allowed: Sequence[int]) -> Findings:
        """At any instant: every sink is whole, of one of the allowed values (0: as before keyturn), and closed."""
        found = Findings()
        for sink in SINKS:
            wanted = [sink.before() if n == 0 else sink.holds(access_key_id(sink.credential, n)) for n in allowed]
            self._look_at(sink, wanted, found)
        if "gamma" in self.credentials:
            self._look_at_link(allowed, found)
        for path in self._strangers():
            seen = path.lstat()
            private = not seen.st_mode & 0o027 and seen.st_uid in (0, os.geteuid(), OWNER)
            if not private or (seen.st_mode & 0o040 and seen.st_gid not in (0, GROUP, os.getegid())):
                found.readable.append(f"{path} {seen.st_mode:o} {seen.st_uid}:{seen.st_gid}")
        return found

    def _look_at(self, sink: Sink, wanted: Sequence[bytes | None], found: Findings) -> None:
        path = self.root / sink.path
        try:
            with path.open("rb") as stream:
                seen, content = os.fstat(stream.fileno()), stream.read()
        except FileNotFoundError:
            if None not in wanted and not self._may_be_gone(sink):
                found.torn.append(f"{sink.path} is gone")
            return
        if content not in wanted and not sink.in_place and not self._is_made_anew(sink, content):
            found.torn.append(f"{sink.path}: {content!r}")
        if (stat.S_IMODE(seen.st_mode), seen.st_uid, seen.st_gid) != (sink.mode, OWNER, GROUP):
            found.attributes.append(f"{sink.path}: {seen.st_mode:o} {seen.st_uid}:{seen.st_gid}")

    def _look_at_link(self, allowed: Sequence[int], found: Findings) -> None:
        """What a reader finds who opens the directory once: all files of one value, and nobody else may enter."""
        numbers = {self._number_in_link(n) for n in allowed}
        if numbers == {None}:
            held = [self._read(self.root / LINK / member.path) for member in MEMBERS]
            found.torn.append(f"{LINK}: {held}")
        for place in (self.root / "set" / ".current.keyturn").glob("*"):
            for path in (place, *place.glob("*")):
                if path.lstat().st_mode & 0o007:
                    found.readable.append(f"{path} {path.lstat().st_mode:o}")
        if self._number_in_link(0) is None:
            for path in (self.root / LINK).resolve().iterdir():
                seen = path.stat()
                if (stat.S_IMODE(seen.st_mode), seen.st_uid, seen.st_gid) != (0o640, OWNER, GROUP):
                    found.attributes.append(f"{path}: {seen.st_mode:o} {seen.st_uid}:{seen.st_gid}")

    def _number_in_link(self, number: int) -> int | None:
        """The number, if the directory holds that value and nothing else; 0 is for no directory."""
        link = self.root / LINK
        if not number:
            return None if link.exists() else 0
        wanted = {member.path: member.holds(access_key_id("gamma", number)) for member in MEMBERS}
        names = os.listdir(link) if link.exists() else []
        return number if {name: self._read(link / name) for name in names} == wanted else None

    def _strangers(self) -> Iterator[Path]:
        known = {self.root / name for name in (LINK, "set/.current.keyturn", *(sink.path for sink in SINKS))}
        for name in ("etc", "env", "place", "set"):
            yield from (path for path in (self.root / name).iterdir() if path not in known and not path.is_symlink())

    def _leftovers(self) -> Iterator[Path]:
        """What is not there when nothing is under way."""
        yield from self._strangers()
        yield from (path for path in (self.root / "set").iterdir() if path.is_symlink() and path.name != "current")
        generations = sorted((self.root / "set" / ".current.keyturn").glob("*"))
        yield from generations[KEEP + 1 :]
        yield from (path for path in generations if len(os.listdir(path)) != len(MEMBERS))

    def settled(self, allowed: Sequence[int]) -> tuple[Findings, dict[str, int]]:
        """After a recovery: one value in all sinks of a credential, nothing beside them; and which value it is."""
        found, values = self.look(allowed), {}
        for credential in self.credentials:
            sinks = [sink for sink in SINKS if sink.credential == credential]
            values.update((credential, number) for number in allowed if self._agree_on(credential, number))
            if credential not in values:
                seen = [(sink.path, self._read(self.root / sink.path)) for sink in sinks]
                found.mixed.append(f"{credential}: {seen}")
        found.leftovers.extend(str(path) for path in self._leftovers())
        return found, values

    def _agree_on(self, credential: str, number: int) -> bool:
        if credential == "gamma":
            return self._number_in_link(number) is not None
        return all(self._holds(sink, number) for sink in SINKS if sink.credential == credential)

    def _holds(self, sink: Sink, number: int) -> bool:
        wanted = sink.before() if number == 0 else sink.holds(access_key_id(sink.credential, number))
        content = self._read(self.root / sink.path)
        gone = content is None and self._may_be_gone(sink)
        return gone or content == wanted or self._is_made_anew(sink, content, [number])

    def _may_be_gone(self, sink: Sink) -> bool:
        return os.path.dirname(sink.path) in self.volatile

    def _is_made_anew(self, sink: Sink, content: bytes | None, numbers: Sequence[int] = (3,)) -> bool:
        """Whether a sink that a power cut took was written again, without the foreign lines that it took too."""
        keys = [access_key_id(sink.credential, number) for number in numbers]
        return self._may_be_gone(sink) and content in [sink.holds(key).removeprefix(b"KEPT=1\n") for key in keys]

    def _read(self, path: Path) -> bytes | None:
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None

    def audit(self) -> list[dict[str, Any]]:
        """Every whole record; whether there are others is what `audit verify` is asked."""
        lines = self.audit_path.read_bytes().splitlines(keepends=True) if self.audit_path.exists() else []
        return [json.loads(line) for line in lines if line.startswith(b"{") and line.endswith(b"}\n")]

    def generations(self) -> tuple[Findings, dict[str, tuple[int, str]]]:
        """No number for two values, and none that falls; return the newest of each credential with its key."""
        found, newest = Findings(), dict.fromkeys(self.credentials, (0, ""))
        keys: dict[tuple[str, int], str] = {}
        for record in self.audit():
            if record["event"] not in ENDS or not record["generation"]:
                continue
            name, number, key = record["credential"], record["generation"], record.get("access_key_id", "")
            if keys.setdefault((name, number), key) != key:
                found.twice.append(f"{name}: {number} is {keys[name, number]} and {key}")
            back = record.get("outcome") == "rolled back"
            if number < newest[name][0] and not back:
                found.twice.append(f"{name}: {number} after {newest[name][0]}")
            newest[name] = (number, key)
        return found, newest

    def told(self, newest: dict[str, tuple[int, str]]) -> Findings:
        """Every dependent heard last of the newest generation, and saw only that one's key in its files."""
        found = Findings()
        for credential, who, _order in (each for each in NOTIFIERS if each[0] in newest):
            heard = self.heard_by(who)
            number, key = newest[credential]
            if number and (not heard or heard[-1] != [credential, str(number), key, f"{key},"]):
                found.lost.append(f"{who}: heard {heard[-1:]}, but {number} is {key}")
        return found

    def heard_by(self, who: str) -> list[list[str]]:
        path = self.heard / who
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def _copy(source: Path, target: Path) -> None:
    """Everything, with owners and times; the directory itself stays (it may be a mount point)."""
    target.mkdir(exist_ok=True)
    for old in target.iterdir():
        shutil.rmtree(old) if old.is_dir() else old.unlink()
    subprocess.run(["cp", "-a", f"{source}/.", f"{target}/"], check=True)

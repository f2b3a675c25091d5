"""A small world to crash in: credentials with sinks of every way of writing, dependents, and inspectors."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.support.crash.promises import (
    CREDENTIALS,
    ENDS,
    GROUP,
    IDS,
    KEEP,
    LINK,
    MEMBERS,
    NOTIFIERS,
    OWNER,
    SINKS,
    Findings,
    Sink,
    access_key_id,
    secret_of,
)
from tests.support.crash.renumbering import renumber_copy

ROOT = Path(__file__).resolve().parents[3]
STORE = f"{os.path.dirname(LINK)}/.{os.path.basename(LINK)}.keyturn"
"""Where the generations of the `directory` sink are."""
PLACES = ("etc", "env", "place", "set")

TELL = """\
#!/bin/sh
# What a dependent does: it looks at its files, and remembers what it was told and which keys it saw.
name=$1 seen=,; shift
for file; do
  [ -e "$file" ] && while IFS= read -r line; do
    rest=${line#*LTAI}
    key=LTAI${rest%"${rest#???????}"}
    [ "$rest" = "$line" ] || case $seen in *",$key,"*) ;; *) seen=$seen$key, ;; esac
  done < "$file"
done
echo "$KEYTURN_CREDENTIAL $KEYTURN_GENERATION $KEYTURN_ACCESS_KEY_ID ${seen#,}" >> "$name"
"""


class World:
    """The files; `root` may be moved aside and made anew, everything else stays.

    Args:
        directory: of everything.
        volatile: directories below the root whose content a power cut takes, as of a tmpfs.
    """

    def __init__(self, directory: Path, *, volatile: Sequence[str] = ()) -> None:
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

    def boot_anew(self) -> None:
        """From now on keyturn sees another boot of the machine, as after a power cut."""
        boot = self.directory / "boot"
        boot.write_text(f"{uuid.uuid4()}\n")
        self.environ["BOOT_ID"] = str(boot)

    # -- the files ----------------------------------------------------------------------------------

    def make_root(self) -> None:
        """Directories and foreign lines, as an operator leaves them for the first start."""
        self.root.mkdir(exist_ok=True)
        for name in (*PLACES, "log"):
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
        renumber_copy(self.root)
        self.log.unlink(missing_ok=True)

    def source(self, number: int | None) -> None:
        """What the sources give out from now on; None: they are down."""
        for credential in CREDENTIALS:
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
        self.config.write_text(agent + "".join(self._credential(name) for name in CREDENTIALS))

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
            command = json.dumps(["/bin/sh", str(self._tell), str(self.heard / who), *files])
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
                [sys.executable, "-m", "tests.support.crash.surgeon"],
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
        if numbers == {None} and not self._is_taken_away("gamma"):
            held = [self._read(self.root / LINK / member.path) for member in MEMBERS]
            found.torn.append(f"{LINK}: {held}")
        for place in (self.root / STORE).glob("*"):
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
        known = {self.root / name for name in (LINK, STORE, *(sink.path for sink in SINKS))}
        for name in PLACES:
            yield from (path for path in (self.root / name).iterdir() if path not in known and not path.is_symlink())

    def _leftovers(self) -> Iterator[Path]:
        """What is not there when nothing is under way."""
        yield from self._strangers()
        yield from (path for path in (self.root / "set").iterdir() if path.is_symlink() and path.name != "current")
        generations = sorted((self.root / STORE).glob("*"))
        yield from generations[KEEP + 1 :]
        yield from (path for path in generations if len(os.listdir(path)) != len(MEMBERS) or self._is_unheard_of(path))

    def _is_unheard_of(self, generation: Path) -> bool:
        """Whether it holds a key that was never published."""
        held = {key.decode() for member in MEMBERS for key in IDS.findall(self._read(generation / member.path) or b"")}
        return not held <= {record.get("access_key_id") for record in self.audit() if record["event"] in ENDS}

    def settled(self, allowed: Sequence[int]) -> tuple[Findings, dict[str, int]]:
        """After a recovery: one value in all sinks of a credential, nothing beside them; and which value it is."""
        found, values = self.look(allowed), {}
        for credential in CREDENTIALS:
            sinks = [sink for sink in SINKS if sink.credential == credential]
            if self._is_taken_away(credential):
                continue  # and so of no value
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

    def _is_taken_away(self, credential: str) -> bool:
        """Whether a power cut took all that a credential had: only `gamma` has everything in one place."""
        return credential == "gamma" and "set" in self.volatile and not (self.root / LINK).exists()

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
        found, newest = Findings(), dict.fromkeys(CREDENTIALS, (0, ""))
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
        """Every dependent heard last of the newest generation, and saw only that one's key in its files.

        One whose files a power cut took hears of them when they are there again, and not before.
        """
        found = Findings()
        for credential, who, _order in (each for each in NOTIFIERS if each[0] in newest):
            heard = self.heard_by(who)
            number, key = newest[credential]
            right = heard[-1:] == [[credential, str(number), key, f"{key},"]]
            waits = self._misses_files(credential) and all(int(words[1]) < number for words in heard[-1:])
            if number and not right and not waits:
                found.lost.append(f"{who}: heard {heard[-1:]}, but {number} is {key}")
        return found

    def _misses_files(self, credential: str) -> bool:
        """Whether a power cut took a file of a credential, and it is not there again."""
        sinks = [sink for sink in SINKS if sink.credential == credential and self._may_be_gone(sink)]
        return self._is_taken_away(credential) or any(self._read(self.root / sink.path) is None for sink in sinks)

    def heard_by(self, who: str) -> list[list[str]]:
        path = self.heard / who
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def empty(directory: Path) -> None:
    """Remove all that is in a directory."""
    for old in directory.iterdir():
        shutil.rmtree(old) if old.is_dir() and not old.is_symlink() else old.unlink()


def _copy(source: Path, target: Path) -> None:
    """Everything, with owners and times; the directory itself stays (it may be a mount point)."""
    target.mkdir(exist_ok=True)
    empty(target)
    subprocess.run(["cp", "-a", f"{source}/.", f"{target}/"], check=True)

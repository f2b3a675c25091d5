"""Rigs of the providers that look at this machine: files, a command, and the default chain of Alibaba's library."""

from __future__ import annotations

import json
import os
import threading
from abc import abstractmethod
from collections.abc import Mapping
from contextlib import ExitStack
from types import SimpleNamespace
from typing import ClassVar

from providers import function_compute, static_parts
from providers.emulator.model import iso
from tests.support.rigs.rig import AGAIN, BAD, CERTIFICATES, HEALTHY, NO, Case, Gives, Rig, Verdict, World, toml
from tests.support.rigs.sessions import UriRig

NO_CONNECTION: Mapping[Case, str] = {
    Case.THROTTLED: "a file counts no readers",
    Case.RESET: "a file breaks off nothing: it is there or not",
    **dict.fromkeys(CERTIFICATES, "a file has no TLS"),
}
UNENDING = "nothing in it says when it ends"
MENDED_HERE: Mapping[Case, Verdict] = {
    # What is wrong with a file is wrong until somebody on this machine mends it; to try again soon helps nobody.
    **dict.fromkeys((Case.GONE, Case.FORBIDDEN, Case.RUBBISH, Case.HANG, Case.OVERSIZED, Case.EMPTY, Case.REDIRECT), NO)
}


class Files(Rig):
    """Parts in files of their own; the last secret one is in trouble.

    Forbidden: others can read it. Hang: it is a FIFO that nobody writes. Drip: it is written again and again. Redirect: it
    is a link to a file that others can read.
    """

    lacks: ClassVar[Mapping[Case, str]] = {**NO_CONNECTION, Case.EXPIRED: UNENDING}
    verdicts: ClassVar[Mapping[Case, Verdict]] = MENDED_HERE
    bound_s = 1.5

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._writing: threading.Event | None = None
        self.cloud.add_user(f"rig-{self.type_name}")
        self.change()

    @abstractmethod
    def parts(self) -> dict[str, str]:
        """A new value; the last part is the one that gets into trouble."""

    def change(self) -> None:
        self._parts = self.parts()
        self._paths = {name: self.world.write(f"{self.type_name}.{name}", text) for name, text in self._parts.items()}
        self._path = list(self._paths.values())[-1]
        self._text = list(self._parts.values())[-1]

    def table(self, name: str) -> str:
        places = {f"{part}_from_file_path": path for part, path in self._paths.items()}
        return toml({"type": self.type_name, **places})

    def owner(self) -> str:
        return f":user/rig-{self.type_name}"

    def canaries(self) -> list[str]:
        return [*super().canaries(), "canary-of-a-file"]

    def suffer(self, case: Case) -> None:
        name = self._path.name
        if case in CONTENTS:
            self.world.write(name, CONTENTS[case] if case is not Case.OVERSIZED else self._text * 5000)
        elif case is Case.FORBIDDEN:
            self._path.chmod(0o644)
        elif case is Case.GONE:
            self._path.unlink()
        elif case is Case.REDIRECT:
            elsewhere = self.world.write(f"{name}.elsewhere", self._text, 0o644)
            self._path.unlink()
            self._path.symlink_to(elsewhere)
        elif case is Case.HANG:
            self._path.unlink()
            os.mkfifo(self._path, 0o600)
        elif case is Case.DRIP:
            self._write_on()

    def _write_on(self) -> None:
        # So long that the writer, however busy the machine is, comes to its next turn: else the file seems to rest.
        self._quiet_s, static_parts.QUIET_S = static_parts.QUIET_S, 1.0
        self._writing = threading.Event()
        self.world.write(self._path.name, self._text)
        threading.Thread(target=self._writes, args=(self._writing,), daemon=True).start()

    def _writes(self, ended: threading.Event) -> None:
        while not ended.wait(0.01):
            self.world.write(self._path.name, self._text)

    def heal(self) -> None:
        if self._writing is not None:
            self._writing.set()
            self._writing, static_parts.QUIET_S = None, self._quiet_s
        super().heal()
        self._path.unlink(missing_ok=True)
        self.world.write(self._path.name, self._text)


CONTENTS = {
    Case.RUBBISH: b"\xff\xfecanary-of-a-file",
    Case.OVERSIZED: b"",
    Case.EMPTY: b"",
    Case.WRONG_SHAPE: b"canary-of-a-file of several words",
}


class AccessKeyFiles(Files):
    """An AccessKey."""

    title = "access_key from files"
    type_name = "access_key"

    def parts(self) -> dict[str, str]:
        keys = self.cloud.keys_of("rig-access_key")
        if len(keys) > 1:
            self.cloud.delete_access_key(keys[0].access_key_id)
        key = self.cloud.add_access_key("rig-access_key")
        return {"access_key_id": key.access_key_id, "access_key_secret": key.access_key_secret}


class StsFiles(Files):
    """A session that somebody else takes, with its end."""

    title = "sts from files"
    type_name = "sts"
    gives: ClassVar[Gives] = "session"
    lacks: ClassVar[Mapping[Case, str]] = NO_CONNECTION

    def parts(self) -> dict[str, str]:
        made = self.cloud.new_session(self.cloud.user("rig-sts"), "somebody", 3600.0)
        return {
            "expiration": iso(made.expires_at),
            "access_key_id": made.access_key_id,
            "access_key_secret": made.access_key_secret,
            "security_token": made.security_token,
        }

    def suffer(self, case: Case) -> None:
        if case is Case.EXPIRED:
            self.world.write(self._paths["expiration"].name, "2020-01-01T00:00:00Z")
        super().suffer(case)

    def heal(self) -> None:
        super().heal()
        self.change()


class Invoked(Rig):
    """An invocation of Function Compute, whose context object or headers bring the session of the function's role."""

    title = "function_compute"
    type_name = "function_compute"
    gives: ClassVar[Gives] = "session"
    lacks: ClassVar[Mapping[Case, str]] = dict.fromkeys(
        [case for case in Case if case not in (*HEALTHY, Case.GONE)],
        "nothing is asked: an invocation brings a session in this process's memory, or there is none",
    )
    verdicts: ClassVar[Mapping[Case, Verdict]] = {Case.GONE: NO}

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._invocations = ExitStack()
        self._role = self.cloud.add_role("rig-function")
        self.change()

    def change(self) -> None:
        self._invocations.close()
        made = self.cloud.new_session(self._role, "fc", 3600.0)
        parts = {part: getattr(made, part) for part in function_compute.PARTS}
        context = SimpleNamespace(credentials=SimpleNamespace(**parts))
        self._invocations.enter_context(function_compute.invocation(context))

    def table(self, name: str) -> str:
        return toml({"type": self.type_name})

    def owner(self) -> str:
        return ":assumed-role/rig-function/fc"

    def suffer(self, case: Case) -> None:
        self._invocations.close()

    def heal(self) -> None:
        super().heal()
        self.change()

    def close(self) -> None:
        self._invocations.close()


class BearerFile(Files):
    """A bearer token."""

    title = "bearer from a file"
    type_name = "bearer"
    gives: ClassVar[Gives] = "bearer"

    def parts(self) -> dict[str, str]:
        return {"bearer_token": self.cloud.add_bearer_token("rig-bearer")}


class Command(Rig):
    """A command that prints a session.

    Throttled: it exits with a status that says no. Forbidden: others can write the program. Reset: it dies in the middle.
    """

    title = "process"
    type_name = "process"
    gives: ClassVar[Gives] = "session"
    lacks: ClassVar[Mapping[Case, str]] = {
        **dict.fromkeys(CERTIFICATES, "a command has no TLS of ours"),
        Case.REDIRECT: "a command sends us nowhere",
    }
    verdicts: ClassVar[Mapping[Case, Verdict]] = {Case.GONE: NO, Case.FORBIDDEN: NO}

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._role = self.cloud.add_role("rig-command")
        self.change()
        self._program = self._give(f"cat {self._answer}")

    def _give(self, script: str, mode: int = 0o700) -> str:
        return str(self.world.write("give", f"#!/bin/sh\n{script}\n", mode))

    def table(self, name: str) -> str:
        return toml({"type": self.type_name, "command": [self._program], "timeout": "2s"})

    def owner(self) -> str:
        return ":assumed-role/rig-command/command"

    def change(self) -> None:
        made = self.cloud.new_session(self._role, "command", 3600.0)
        answer = {
            "mode": "StsToken",
            "access_key_id": made.access_key_id,
            "access_key_secret": made.access_key_secret,
            "sts_token": made.security_token,
            "expiration": iso(made.expires_at),
        }
        self._answer = self.world.write("answer.json", json.dumps(answer))

    def suffer(self, case: Case) -> None:
        if case is Case.GONE:
            os.unlink(self._program)
        elif case is Case.EXPIRED:
            self.cloud.session_life_s = -60.0
            self.change()
        else:
            said = f"cat {self._answer}"
            self._give(SCRIPTS[case].format(answer=said), 0o777 if case is Case.FORBIDDEN else 0o700)

    def heal(self) -> None:
        super().heal()
        self.change()
        self._give(f"cat {self._answer}")


SCRIPTS = {
    Case.THROTTLED: "{answer} >&2; exit 75",
    Case.FORBIDDEN: "{answer}",
    Case.RUBBISH: "{answer} | tr '{{' ' '",
    Case.HANG: "exec sleep 600",
    Case.DRIP: '{answer} | fold -w 1 | while read -r c; do printf %s "$c"; sleep 0.2; done',
    Case.RESET: "{answer} | head -c 100; kill -9 $$",
    Case.OVERSIZED: 'yes "$({answer})" | head -n 200',
    Case.EMPTY: ":",
    Case.WRONG_SHAPE: "{answer} | sed s/mode/made/",
}
"""What the command does; `{answer}` prints what it should."""


class DefaultIni(Rig):
    """The default chain, at its link `credentials.ini`.

    Forbidden: others can write it. Hang: it is a FIFO. Wrong shape: of a type that the library refuses.
    """

    title = "default, credentials.ini"
    type_name = "default"
    bound_s = 3.0  # a process that has to import the library
    warm = False  # and keeps nothing
    lacks: ClassVar[Mapping[Case, str]] = {
        **NO_CONNECTION,
        Case.DRIP: "the library reads a file in one piece",
        Case.REDIRECT: "links are followed: what counts is who can write the file at their end",
        Case.EXPIRED: UNENDING,
    }
    verdicts: ClassVar[Mapping[Case, Verdict]] = {
        **MENDED_HERE,
        Case.HANG: AGAIN,
        Case.WRONG_SHAPE: NO,
        Case.OVERSIZED: BAD,
    }

    def __init__(self, world: World) -> None:
        super().__init__(world)
        world.environ["ALIBABA_CLOUD_ECS_METADATA_DISABLED"] = "true"
        self.cloud.add_user("rig-default")
        self.change()

    def table(self, name: str) -> str:
        return toml({"type": self.type_name})

    def owner(self) -> str:
        return ":user/rig-default"

    def change(self) -> None:
        keys = self.cloud.keys_of("rig-default")
        if len(keys) > 1:
            self.cloud.delete_access_key(keys[0].access_key_id)
        self._key = self.cloud.add_access_key("rig-default")
        self._write(self._key.access_key_secret)

    def _write(self, secret: str, kind: str = "access_key", mode: int = 0o600) -> None:
        profile = {"type": kind, "access_key_id": self._key.access_key_id, "access_key_secret": secret}
        lines = "".join(f"{key} = {value}\n" for key, value in profile.items())
        self._put(f"[default]\n{lines}", mode)

    def _put(self, content: str, mode: int = 0o600) -> None:
        self._path = self.world.write("home/.alibabacloud/credentials.ini", content, mode)

    def suffer(self, case: Case) -> None:
        secret = self._key.access_key_secret
        if case is Case.GONE:
            self._path.unlink()
        elif case is Case.FORBIDDEN:
            self._write(secret, mode=0o622)
        elif case is Case.HANG:
            self._path.unlink()
            os.mkfifo(self._path, 0o600)
        elif case is Case.WRONG_SHAPE:
            self._write(secret, kind="sts")
        else:
            self._put({Case.RUBBISH: f"{secret} = {secret}\n", Case.OVERSIZED: "", Case.EMPTY: ""}[case])
            if case is Case.OVERSIZED:
                self._write(secret * 4000)

    def heal(self) -> None:
        super().heal()
        self._path.unlink(missing_ok=True)
        self._write(self._key.access_key_secret)


class DefaultUri(UriRig):
    """The default chain, at its link to a credentials URI over https."""

    title = "default, credentials URI"
    type_name = "default"
    bound_s = 3.0
    warm = False

    def __init__(self, world: World) -> None:
        super().__init__(world)
        world.environ["ALIBABA_CLOUD_ECS_METADATA_DISABLED"] = "true"
        world.environ["ALIBABA_CLOUD_CREDENTIALS_URI"] = self.uri

    def table(self, name: str) -> str:
        return toml({"type": self.type_name})


RIGS = (AccessKeyFiles, StsFiles, Invoked, BearerFile, Command, DefaultIni, DefaultUri)

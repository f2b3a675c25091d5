"""`default`: the default credential chain of `alibabacloud_credentials`, link by link as an SDK client walks it.

Environment, OIDC, ~/.aliyun/config.json, ~/.alibabacloud/credentials.ini, metadata server, credentials URI: the first
that has a credential is the source (alibabacloud-credentials 1.0.12, `provider/default.py`).

Each fetch runs providers/default_child.py, a process of its own that walks the chain once. The reasons:

* The library reads the environment when it is imported, keeps the link that answered for ever, and hands an old value
  out when a refresh fails. A new process does none of that: a link that goes away is replaced at the next fetch.
* Each metadata link starts a scheduler thread that nothing ends, and the loggers get handlers that print replies.
* Its network calls must be changed (TLS, redirects, limits in time), and what it writes back to config.json. In the
  agent that would affect the other users of `Tea`, and the library would stay in memory: 43 MB resident with
  alibabacloud-credentials 1.0.12, against 10 for the bare interpreter.
* A profile's command (External) is ended together with that process, by its group, at the fetch's limit.

The price is the start of an interpreter at each fetch: half a second of one processor, once a minute, for a value
without an expiration; a session is asked for when it is due. Rejected: the same chain rebuilt of keyturn's own providers,
which would drift from the SDKs on the machine that it is meant to agree with.

`version_id` names the link that answered ("default/cli_profile/static_ak"), and so do `status`, `check` and the audit.
The same key from another link changes no file, and nobody is told.

Both files may decide what is executed and where keys are sent, so neither may be writable by others, whether the chain
reaches it or not. The library's texts of failures are never shown: they hold URLs, replies and lines of files.
"""

from __future__ import annotations

import json
import os
import re
import stat
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from agent.cloud.failures import json_object
from agent.cloud.transport import UntrustedServerError
from agent.core import errors
from agent.core.credential import Credential
from agent.core.errors import (
    BadAnswerError,
    CancelledError,
    CredentialFileError,
    KeyturnError,
    SourceRefusedError,
    SourceUnavailableError,
)
from agent.core.finding import Finding
from agent.core.provider import Provider, ProviderContext
from agent.core.settings import ProviderSettings
from agent.system.accounts import own_account
from agent.system.process import Completed, run_command
from agent.system.process_group import Ending
from agent.system.trusted_path import open_trusted, refuse_foreign_writers
from providers.session_json import ANSWER_LIMIT_BYTES, EXTERNAL, bad_answer, credential_of
from providers.static_parts import told_as

PACKAGE = "alibabacloud_credentials"

SPARE_S = 2.0
"""Seconds by which the chain's limit is below the fetch's, so that it can still report what it was waiting for."""

_START = """\
import json, sys
told = json.load(sys.stdin)
sys.path[:] = told["path"]
from providers.default_child import main
main(told)
"""
_PASSED_ON = re.compile(r"ALIBABA_CLOUD_\w+|HOME|(?i:HTTPS?_PROXY|ALL_PROXY|NO_PROXY)|SSL_CERT_(FILE|DIR)")
_LINK = re.compile(r"[a-z0-9_/]{1,120}")
_CHAIN = "the default chain"
_NOTHING = (
    "set ALIBABA_CLOUD_ACCESS_KEY_ID and _SECRET for keyturn, or put a profile into {cli} or {ini}, or attach a RAM role "
    "to this instance, or set ALIBABA_CLOUD_CREDENTIALS_URI"
)


@dataclass(frozen=True, kw_only=True)
class DefaultSettings(ProviderSettings):
    """The settings of `type = "default"`."""


class DefaultChain(Provider):
    """The provider of `type = "default"`."""

    type_name: ClassVar[str] = "default"
    Settings: ClassVar[type[ProviderSettings]] = DefaultSettings
    settings: DefaultSettings

    program: str = _START
    """The code that the child runs; it reads the request from standard input."""

    def __init__(self, settings: Any, context: ProviderContext) -> None:
        super().__init__(settings, context)
        self._closed = threading.Event()

    def close(self) -> None:
        """End a child that is running."""
        self._closed.set()

    def _fetch(self, timeout_s: float) -> Credential:
        with told_as(f"credentials.{self.context.credential}"):
            _require_library()
            for path, _found in self._present():
                _refuse_foreign(path)
            done = run_command(
                [sys.executable, "-I", "-c", self.program],
                timeout_s=timeout_s,
                cancel=self._closed,
                stdin=json.dumps(self._told(timeout_s)).encode(),
                output_limit=ANSWER_LIMIT_BYTES,
            )
            return self._credential_of(_answer_of(done))

    def _told(self, timeout_s: float) -> dict[str, object]:
        environ = {name: value for name, value in self.context.environ.items() if _PASSED_ON.fullmatch(name)}
        cloud = self.context.cloud
        return {
            "environ": environ,
            "path": [os.path.abspath(entry) for entry in sys.path],
            "ca_file": cloud.ca_file,
            "sts_endpoint": cloud.sts_endpoint,
            "timeout_s": max(timeout_s / 2, timeout_s - SPARE_S),
        }

    def _files(self) -> tuple[Path, Path]:
        """Return the files that the library reads: the CLI's config and credentials.ini."""
        environ = self.context.environ
        home = Path(environ.get("HOME") or own_account().home)
        ini = environ.get("ALIBABA_CLOUD_CREDENTIALS_FILE") or home / ".alibabacloud" / "credentials.ini"
        return home / ".aliyun" / "config.json", Path(ini)

    def _present(self) -> Iterator[tuple[Path, os.stat_result]]:
        """Yield those files that exist, as far as keyturn's user can see."""
        for path in self._files():
            with suppress(OSError):
                yield path, path.stat()

    def _credential_of(self, answer: Mapping[str, Any]) -> Credential:
        if "broken" in answer:
            remedy = f"install the version of {PACKAGE} that keyturn was tested with (1.0.12)"
            raise BadAnswerError(f"{_CHAIN} failed with {answer['broken']}", remedy)
        if "troubles" in answer:
            raise self._nothing([each for each in answer["troubles"] if not each["absent"]])
        link = str(answer.get("link"))
        if not _LINK.fullmatch(link):
            raise bad_answer(_CHAIN, "does not say which link it is from")
        found = credential_of(answer, EXTERNAL, f"link {link}")
        return Credential(
            access_key_id=found.access_key_id,
            access_key_secret=found.access_key_secret,
            security_token=found.security_token,
            expiration=found.expiration,
            version_id=link,
        )

    def _nothing(self, troubles: list[Mapping[str, Any]]) -> KeyturnError:
        """Return the error for a chain without a credential, with the trouble on the way where there was any."""
        failed = [_error_of(each) for each in troubles]
        present = [str(path) for path, _ in self._present()]
        unused = f" ({' and '.join(present)} {'are' if len(present) > 1 else 'is'} there, without a usable profile)"
        said = f"no link of {_CHAIN} has a credential"
        if not failed:
            cli, ini = self._files()
            return SourceRefusedError(said + (unused if present else ""), _NOTHING.format(cli=cli, ini=ini))
        return errors.of_all(said, failed)

    def inspect(self) -> Iterator[Finding]:
        """Yield whether the library and the two files are there, and who may change the files. Uses no network."""
        place = f"credentials.{self.context.credential}.provider"
        try:
            _require_library()
        except KeyturnError as error:
            yield Finding.of("error", place, error.as_problem())
        for path, found in self._present():
            yield _judge(place, path, found)
        if self.context.environ.get("ALIBABA_CLOUD_ACCESS_KEY_ID"):
            yield Finding("ok", place, "ALIBABA_CLOUD_ACCESS_KEY_ID is set, which goes before every file")


def _require_library() -> None:
    if find_spec(PACKAGE) is None:
        raise SourceRefusedError(
            f"{_CHAIN} is that of the Python package {PACKAGE}, which is not installed",
            "install alibabacloud-credentials beside keyturn",
        )


def _answer_of(done: Completed) -> dict[str, Any]:
    if done.ending is Ending.CANCELLED:
        raise CancelledError(f"{_CHAIN} {done.outcome}")
    answer = json_object(done.stdout) if done.ok else None
    if answer is None:
        raise SourceUnavailableError(f"{_CHAIN} {done.outcome} without an answer", "it is tried again by itself")
    return answer


def _error_of(trouble: Mapping[str, Any]) -> KeyturnError:
    kinds = {"UntrustedServerError": UntrustedServerError}
    kind = kinds.get(trouble["kind"]) or getattr(errors, trouble["kind"])
    error: KeyturnError = kind(trouble["problem"], trouble["remedy"], code=trouble["code"])
    return error


def _refuse_foreign(path: Path) -> None:
    """Refuse a file that somebody else can write or replace; nobody can exchange it then before the library reads it.

    Raises:
        CredentialFileError: somebody can.
    """
    with suppress(OSError):  # the library says it
        fd = open_trusted(path, os.O_PATH | os.O_CLOEXEC)
        try:
            refuse_foreign_writers(os.fstat(fd), str(path))
        finally:
            os.close(fd)


def _judge(place: str, path: Path, found: os.stat_result) -> Finding:
    try:
        _refuse_foreign(path)
    except CredentialFileError as error:
        return Finding.of("error", place, error.as_problem())
    if found.st_mode & (stat.S_IRGRP | stat.S_IROTH):
        return Finding("warning", place, f"{path}: others can read the keys in it", f"chmod 600 {path}")
    return Finding("ok", place, f"{path} is there and private")

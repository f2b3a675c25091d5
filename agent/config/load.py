"""The way from a config file to frozen `Settings`: START HERE.

`load` reads the file, `parse` judges its text. Every problem of the file is found in one pass and raised as
one `ConfigError`; only a text that is not TOML gets no more than one sentence.
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from agent.config import checks, file_conflicts
from agent.config.converter import Walker
from agent.config.messages import Report
from agent.config.outline import AUDIT_LOG, MAX_BYTES, RUNTIME_DIRECTORY, STATE_DIRECTORY
from agent.config.registry import Registry
from agent.core.errors import ConfigError, CredentialFileError, NotPermittedError
from agent.core.problem import Mistake
from agent.core.settings import AgentSettings, FilePath, Settings
from agent.system import files
from agent.system.accounts import Accounts, user_name

MAX_DEPTH = 32
"""Levels of nesting. The contract's deepest key has nine; the converter is recursive and must not exhaust the stack."""

_TOO_LARGE = "{}: is larger than 1 MiB, which no config of keyturn is; name the config file with --config"


def load(path: str, registry: Registry, *, environ: Mapping[str, str], users: Accounts) -> Settings:
    """Read and judge a config file.

    Args:
        path: the file; its name stands before every problem.
        registry: the types of providers, sinks and notifiers that it may use.
        environ: for `${VAR}` in paths, and systemd's `$STATE_DIRECTORY` and its like.
        users: the accounts of this machine.

    Raises:
        ConfigError: the file is missing or invalid, holding every problem; or somebody besides root and this user
            can write it, and so have anything run as keyturn.
        NotPermittedError: this user may not read the file.
    """
    return parse(_read(path), path, registry, environ=environ, users=users)


def parse(text: bytes, place: str, registry: Registry, *, environ: Mapping[str, str], users: Accounts) -> Settings:
    """Judge the text of a config; `place` is its name in problems. The other arguments are those of `load`.

    Raises:
        ConfigError: it is invalid; holds every problem.
    """
    tree, report = _tree(text, place), Report()
    tree.setdefault("credentials", {})  # without any, `checks.names` has the better sentence
    walker = Walker(registry, environ, report)
    settings: Settings = walker.convert(tree, Settings, ())
    agent = _agent_of(walker, environ, report)
    checks.names(tree, report)
    checks.references(tree, walker.references, report)
    file_conflicts.check(walker.built, agent, report)
    checks.endpoints(tree, walker.built, report)
    checks.accounts(walker.built, users, report)
    if report:
        from agent.config.located import located  # where something is wrong only: the daemon's memory is counted

        raise ConfigError.about(located(report.notes, place, _decoded(text)))
    loaded = dataclasses.replace(settings, agent=agent)
    object.__setattr__(loaded, "digest", digest(text))  # no key of the file, so it is no argument either
    return loaded


def digest(text: bytes) -> str:
    """Return what tells the text of a config from another one: `Settings.digest`."""
    return f"sha256:{sha256(text).hexdigest()[:16]}"


def _read(path: str) -> bytes:
    try:
        return files.read_trusted(path, MAX_BYTES)  # unlike a sink's target, the config may be a symlink
    except CredentialFileError as error:
        raise ConfigError([str(error)]) from error
    except (OSError, ValueError) as error:
        raise _unreadable(error, path) from error


def _unreadable(error: Exception, path: str) -> ConfigError | NotPermittedError:
    if isinstance(error, PermissionError):
        remedy = "let that user read it, or run keyturn as one who may"
        return NotPermittedError(f"{path}: user {user_name()} may not read the config", remedy)
    if isinstance(error, FileNotFoundError):
        remedy = "write one with `keyturn init`, or name another file with --config"
        return ConfigError([f"{path}: there is no such file; {remedy}"])
    if isinstance(error, files.TooLargeError):
        return ConfigError([_TOO_LARGE.format(path)])
    if isinstance(error, files.NotRegularError):
        return ConfigError([f"{path}: is not a regular file; name the config file itself with --config"])
    what = (getattr(error, "strerror", None) or str(error)).lower()
    return ConfigError([f"{path}: cannot be read ({what}); name the config file with --config"])


def _tree(text: bytes, place: str) -> dict[str, Any]:
    """Parse TOML, and report a text that is none in one sentence."""
    if len(text) > MAX_BYTES:
        raise ConfigError([_TOO_LARGE.format(place)])
    try:
        tree = tomllib.loads(_decoded(text))
    except UnicodeDecodeError as error:
        begun = text[text.rfind(b"\n", 0, error.start) + 1 : error.start].decode("utf-8-sig")
        line = text.count(b"\n", 0, error.start) + 1
        wrong = Mistake(place, line, len(begun) + 1, "", "not UTF-8; save the file as UTF-8")
        raise ConfigError.about([wrong]) from None
    except RecursionError:
        raise ConfigError([_too_deep(place)]) from None
    except ValueError as error:  # TOMLDecodeError, and the limit of int() on digits
        from agent.config.syntax import syntax_mistake  # as above

        raise ConfigError.about([syntax_mistake(str(error), place, _decoded(text))]) from None
    if _depth_exceeds(tree, MAX_DEPTH):
        raise ConfigError([_too_deep(place)])
    return tree


def _decoded(text: bytes) -> str:
    return text.decode("utf-8-sig")


def _too_deep(place: str) -> str:
    return f"{place}: is nested more than {MAX_DEPTH} levels deep; no key of keyturn is"


def _depth_exceeds(tree: Any, limit: int) -> bool:
    """Return whether containers nest deeper than `limit`, without recursion."""
    layer = [tree]
    for _ in range(limit):
        layer = [part for each in layer for part in _parts(each)]
    return bool(layer)


def _parts(container: Any) -> list[Any]:
    parts = container.values() if isinstance(container, dict) else container
    return [part for part in parts if isinstance(part, dict | list)]


def _agent_of(walker: Walker, environ: Mapping[str, str], report: Report) -> AgentSettings:
    """Return `[agent]` with every path filled in; the defaults where the table is broken."""
    agent = next((built.settings for built in walker.built if built.place == ("agent",)), AgentSettings())

    def fill(value: FilePath | None, variable: str, below: str, otherwise: str) -> FilePath:
        return value or FilePath(_given(environ, variable, below, report) or otherwise)

    state = fill(agent.state_directory, "STATE_DIRECTORY", "", STATE_DIRECTORY)
    runtime = fill(agent.runtime_directory, "RUNTIME_DIRECTORY", "", RUNTIME_DIRECTORY)
    audit = fill(agent.audit.path, "LOGS_DIRECTORY", "/audit.jsonl", AUDIT_LOG)
    filled = dataclasses.replace(agent.audit, path=audit)
    return dataclasses.replace(agent, state_directory=state, runtime_directory=runtime, audit=filled)


def _given(environ: Mapping[str, str], variable: str, below: str, report: Report) -> str:
    """Return the first directory of systemd's colon-separated list, as a path."""
    first = environ.get(variable, "").partition(":")[0]
    if not first:
        return ""
    if not first.startswith("/"):
        report.add((), f"the environment variable {variable} holds no absolute path; unset it or name a directory")
        return ""
    return first.rstrip("/") + below or "/"

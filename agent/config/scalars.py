"""The conversion of one scalar: durations, modes and paths here, everything else by msgspec.

Rejected: one `msgspec.convert` over the whole file. It stops at the first problem, its texts quote the value,
and it knows neither our three types inside unions nor the environment from which `${VAR}` is filled in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from pathlib import PurePosixPath
from typing import Any, Literal, get_args, get_origin

import msgspec

from agent.config.duration import A_DURATION, Malformed, duration
from agent.config.messages import either, got, quoted
from agent.config.unfit import Unfit
from agent.core.problem import Place
from agent.core.settings import Duration, FileMode, FilePath
from agent.core.suspects import looks_secret
from agent.core.text import nearest

_WORDS: tuple[tuple[Any, str], ...] = (
    (str, "a string"),
    (bool, "true or false"),
    (int, "an integer"),
    (float, "a number"),
    (Duration, A_DURATION),
    (FileMode, 'an octal string like "0640"'),
    (FilePath, "an absolute path"),
)

_MODE = re.compile(r"0?[0-7]{3,4}")
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def convert(raw: Any, annotation: Any, place: Place, environ: Mapping[str, str]) -> Any:
    """Convert one scalar.

    Raises:
        Unfit: it does not fit; the text says what would.
    """
    if get_origin(annotation) is Literal:
        return choice(raw, get_args(annotation), place)
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return annotation(choice(raw, tuple(member.value for member in annotation), place))
    if annotation in (Duration, FileMode, FilePath):
        return _own(raw, annotation, place, environ)
    return _by_msgspec(raw, annotation, place, environ)


def words(annotation: Any) -> str:
    """Return the name of what is wanted: a common one where there is one, else the type's own."""
    own = next((text for each, text in _WORDS if each is annotation), None)
    return own or f"a value of type {getattr(annotation, '__name__', annotation)}"


def choice(raw: Any, choices: tuple[Any, ...], place: Place) -> Any:
    """Return the member of `choices` that equals `raw`; true does not equal 1 here."""
    for wanted in choices:
        if type(wanted) is type(raw) and wanted == raw:
            return wanted
    wanted = either(quoted(each) if isinstance(each, str) else str(each).lower() for each in choices)
    near = nearest(raw, [each for each in choices if isinstance(each, str)]) if isinstance(raw, str) else None
    hint = f"; did you mean {quoted(near)}?" if near and len(choices) > 4 else ""
    raise Unfit(f"want {wanted}, {got(raw, place)}{hint}")


def _hints() -> Any:
    from agent.config import hints  # once something is wrong: the daemon's memory is counted

    return hints


def file_mode(text: str) -> FileMode:
    """Parse "0640"; setuid, setgid and sticky bits have no place on a file of secrets.

    Raises:
        Unfit: it is no mode, or one with such bits.
    """
    if not _MODE.fullmatch(text):
        raise Malformed(f"want {words(FileMode)}")
    mode = int(text, 8)
    if mode & 0o7000:
        raise Malformed('want an octal string like "0640", without the setuid, setgid or sticky bit')
    return FileMode(mode)


def file_path(text: str, environ: Mapping[str, str], place: Place = ()) -> FilePath:
    """Fill in `${VAR}` from the environment and require an absolute path; any other `$` is an ordinary character."""
    path = _VARIABLE.sub(lambda match: _variable(match[1], environ), text)
    if "${" in text and "${" in _VARIABLE.sub("", text):
        raise Unfit('has a "${" that no variable name and "}" follow; want "${NAME}"')
    if not path.isprintable():
        raise Unfit("has a control character in the path")
    if not path.startswith("/"):
        raise Unfit(_why_not_absolute(text, place))
    # Only what never changes the meaning is removed: "//", "/./" and a last "/". ".." stays, since the directory
    # before it may be a symlink.
    name = path.strip("/")
    if "/" not in name and looks_secret(name):
        raise Unfit("want the path of a file; what is written looks like a secret, and is not repeated here")
    return FilePath("/" + str(PurePosixPath(path)).lstrip("/"))


def _variable(name: str, environ: Mapping[str, str]) -> str:
    value = environ.get(name)
    if not value:
        state = "is not set" if value is None else "is empty"
        if name == "CREDENTIALS_DIRECTORY":
            remedy = "systemd sets it where the unit has LoadCredential=; add that to the unit, or write the path out"
            raise Unfit(f"the environment variable {name} {state}; {remedy}")
        raise Unfit(f"the environment variable {name} {state}; set it for keyturn, or write the path out")
    return value


def _why_not_absolute(text: str, place: Place) -> str:
    if text.startswith("${"):
        return "want an absolute path, and the variable at its beginning holds none"
    if bare := re.match(r"\$([A-Za-z_][A-Za-z0-9_]*)", text):
        return f"want an absolute path; to use the variable write ${{{bare[1]}}}"
    return f"want an absolute path{_hints().not_absolute(text, place)}"


def _own(raw: Any, annotation: Any, place: Place, environ: Mapping[str, str]) -> Any:
    try:
        if not isinstance(raw, str):
            raise Malformed(f"want {words(annotation)}")
        if annotation is Duration:
            return duration(raw)
        return file_mode(raw) if annotation is FileMode else file_path(raw, environ, place)
    except Malformed as malformed:
        raise Unfit(f"{malformed}, {got(raw, place)}{_hints().wrong_scalar(raw, annotation, place)}") from None


def _by_msgspec(raw: Any, annotation: Any, place: Place, environ: Mapping[str, str]) -> Any:
    try:
        return msgspec.convert(raw, annotation, dec_hook=lambda kind, value: convert(value, kind, place, environ))
    except msgspec.ValidationError as error:
        known = any(each is annotation for each, _ in _WORDS)
        wanted = words(annotation) if known else _spoken(str(error))
        raise Unfit(f"want {wanted}, {got(raw, place)}{_hints().wrong_scalar(raw, annotation, place)}") from None
    except (TypeError, ValueError):
        raise Unfit("has a type that a config cannot express; report it to its author") from None


def _spoken(text: str) -> str:
    """Put msgspec's ``Expected `int` >= 1, got …`` into words; its other texts may quote the value, so they are not used."""
    match = re.match(r"Expected (.+?)(?:, got|$| - at)", text)
    return match[1].replace("`", "") if match else "another value"

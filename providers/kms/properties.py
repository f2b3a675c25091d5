r"""The reader of `secretsmanager.properties`, the file of Alibaba's secrets-manager clients, as they document it.

Known are the keys of the clients for Python, Go and Java (aliyun-secret-manager-client 0.1.5, the V2 clients 2.0), of the
JDBC client and of the managed-credentials plug-ins: one file often serves several of them. The reader of the Python client
raises on Python 3.11 and later (`open(…, "Ur")`), cuts values at any `#`, and takes a missing file for an empty one. This one
is strict instead, and the format is that of `java.util.Properties`, which also writes such files:

* `key = value` or `key: value`, one a line; blanks around both are dropped; a `\` at the end joins the next line.
* `#` and `!` begin a comment at the start of a line only.
* `\` before a character stands for that character (`\:`), `\n` and its kin for a line break, `\u00e9` for a code unit.
* UTF-8, with or without BOM; LF or CRLF.
* An empty value means "not given". A key given twice is an error, and so is a line without `=` or `:`, which Java takes for
  a key without a value: here it may be a pasted secret.

Nobody else may write the file. If it holds a secret itself (`SECRET_KEYS`), nobody else may read it either; a file that only
names other files may be read by all.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from agent.core.errors import CredentialFileError
from agent.core.secret import Secret
from agent.core.text import nearest
from agent.system.files import read_private
from providers.kms.password import FILE_VARIABLE, NAME_VARIABLE, PASSWORD_VARIABLE, PasswordSource
from providers.static_parts import read_open

LIMIT_BYTES = 64 * 1024

USED_KEYS = frozenset(
    {
        "cache_client_dkms_config_info",
        "cache_client_region_id",
        "client_key_password",
        "client_key_password_from_env_variable",
        "client_key_password_from_file_path",
        "client_key_private_key_path",
        "credentials_access_key_id",
        "credentials_access_secret",
        "credentials_access_token",
        "credentials_access_token_id",
        "credentials_duration_seconds",
        "credentials_oidc_provider_arn",
        "credentials_oidc_token_file_path",
        "credentials_policy",
        "credentials_role_arn",
        "credentials_role_name",
        "credentials_role_session_name",
        "credentials_sts_endpoint",
        "credentials_sts_region_id",
        "credentials_type",
        "ignoreSSLCerts",
        "secret_names",
    }
)
"""The documented keys that keyturn uses, or answers by a sentence of their own."""

WITHOUT_EFFECT = {
    "aap_arn": "it belongs to a credentials_type that keyturn does not support",
    "idaas_config_path": "it belongs to a credentials_type that keyturn does not support",
    "refresh_secret_ttl": "keyturn asks every poll_interval of its own config",
    "token_path": "it belongs to a credentials_type that keyturn does not support",
}
"""The documented keys that other clients use and keyturn does not -> why."""

KNOWN_KEYS = USED_KEYS | WITHOUT_EFFECT.keys()

SECRET_KEYS = ("client_key_password", "credentials_access_secret", "credentials_access_token")
"""The keys whose values are secrets."""

REGION_KEYS = ("regionId", "endpoint", "vpc", "caFilePath")
"""The keys of an object of `cache_client_region_id`."""

_WORD = re.compile(r"[A-Za-z_.-]{1,64}")


def shown(key: str) -> str:
    """Return the key as a message may show it: what is no word may be a secret that was pasted as a line of its own."""
    return key if _WORD.fullmatch(key) else "a key that is no word"


@dataclass(frozen=True, slots=True)
class RegionEntry:
    """One object of `cache_client_region_id`.

    Attributes:
        ca_file: the region's own authority (V2 clients: `caFilePath`, for an endpoint that is a KMS instance).
        unknown: the keys of the object that no client documents.
    """

    region_id: str
    endpoint: str | None
    vpc: bool
    ca_file: str | None = None
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True)
class Properties:
    """The content of a properties file. An empty value counts as absent."""

    path: str
    values: dict[str, str] = field(repr=False)

    def get(self, key: str) -> str | None:
        """Return the value of a key, None where it is not given."""
        return self.values.get(key) or None

    def need(self, key: str) -> str:
        """Return the value of a key that must be given.

        Raises:
            CredentialFileError: it is not.
        """
        value = self.get(key)
        if value is None:
            raise CredentialFileError(f"{self.path}: {key} is missing", f"add a line: {key}=…")
        return value

    def secret(self, key: str) -> Secret:
        """Return the value of a key that must be given and is a secret.

        Raises:
            CredentialFileError: it is not given.
        """
        return Secret(self.need(key))

    def path_of(self, key: str) -> str | None:
        """Return the value of a key that is a path, None where it is not given.

        Raises:
            CredentialFileError: the path is relative, and is not repeated: it may be the password that the file should hold.
                The official client would resolve it from its working directory.
        """
        value = self.get(key)
        if value is not None and not value.startswith("/"):
            # Not repeated: it may be the password itself, written where its file's path belongs.
            raise CredentialFileError(f"{self.path}: {key}: the path is relative", "write it from / on")
        return value

    def regions(self) -> tuple[RegionEntry, ...]:
        """Return the regions in their order.

        Raises:
            CredentialFileError: `cache_client_region_id` is missing or not the documented JSON.
        """
        text = self.need("cache_client_region_id")
        entries = json_list(text)
        if not entries:
            raise self._bad_regions("not a JSON list of regions")
        return tuple(self._region(entry) for entry in entries)

    def _region(self, entry: object) -> RegionEntry:
        if not isinstance(entry, dict) or not isinstance(entry.get("regionId"), str) or not entry["regionId"]:
            raise self._bad_regions("a region without a regionId")
        endpoint, vpc = entry.get("endpoint") or None, entry.get("vpc", False)
        if endpoint is not None and not isinstance(endpoint, str):
            raise self._bad_regions("an endpoint that is not a text")
        truth = {True: True, False: False, None: False, "true": True, "false": False}
        if not isinstance(vpc, bool | str | None) or vpc not in truth:
            raise self._bad_regions("a vpc that is neither true nor false")
        ca_file = entry.get("caFilePath") or None
        if ca_file is not None and (not isinstance(ca_file, str) or not ca_file.startswith("/")):
            raise self._bad_regions("a caFilePath that is no absolute path")
        unknown = tuple(sorted(entry.keys() - set(REGION_KEYS)))
        return RegionEntry(entry["regionId"], endpoint, truth[vpc], ca_file, unknown)

    def _bad_regions(self, what: str) -> CredentialFileError:
        return CredentialFileError(
            f"{self.path}: cache_client_region_id: {what}",
            'write cache_client_region_id=[{"regionId":"cn-hangzhou"}], with "endpoint" or "vpc" where needed',
        )

    def unknown(self) -> Iterator[tuple[str, str | None]]:
        """Yield the keys that no client documents, each as it may be shown and with the nearest known one."""
        for key in sorted(self.values.keys() - KNOWN_KEYS):
            yield shown(key), nearest(key, KNOWN_KEYS)


def read(path: str, environ: Mapping[str, str]) -> Properties:
    """Read a properties file.

    Args:
        path: of the file.
        environ: where `$CREDENTIALS_DIRECTORY` is looked up.

    Raises:
        CredentialFileError: it is missing, too large or malformed, or somebody else can write it, or read the secret
            in it; the text names file and line.
        NotPermittedError: the agent's user may not read it.
    """
    found = look(path, environ)
    if any(found.get(key) for key in SECRET_KEYS):
        return parse(read_private(path, LIMIT_BYTES, environ), path)
    return found


def look(path: str, environ: Mapping[str, str]) -> Properties:
    """Read a properties file without asking who else can read it: for `check`, which says all that is to be said of it.

    Raises:
        CredentialFileError, NotPermittedError: as `read`, but for the secret.
    """
    return parse(read_open(path, LIMIT_BYTES, environ), path)


def json_list(text: str) -> list[object]:
    """Return the JSON list that a value is, an empty one where it is none.

    A line break in a string is let pass, for that is what the format's own unescaping makes of those in a PEM certificate.
    """
    try:
        entries = json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return []
    return entries if isinstance(entries, list) else []


def client_key_password(read: Properties, environ: Mapping[str, str]) -> PasswordSource:
    """Return the source of the ClientKey's password that the file names, or the environment where the file does not.

    Raises:
        CredentialFileError: the path is relative.
    """
    inline = read.get(PASSWORD_VARIABLE)
    return PasswordSource(
        variable=read.get(NAME_VARIABLE),
        file=read.path_of(FILE_VARIABLE) or path_in(environ, FILE_VARIABLE),
        inline=Secret(inline) if inline else None,
    )


def path_in(environ: Mapping[str, str], variable: str) -> str | None:
    """Return the path that an environment variable holds, None where it is not set.

    Raises:
        CredentialFileError: it holds something else, perhaps the secret itself: the text does not show it.
    """
    path = environ.get(variable) or None
    if path is not None and not path.startswith("/"):
        raise CredentialFileError(
            f"the environment variable {variable} holds no absolute path", "write the path of the file there, from / on"
        )
    return path


def parse(content: bytes, path: str) -> Properties:
    """Parse the content of the file at `path`.

    Raises:
        CredentialFileError: it is malformed; the text names file and line, never a value.
    """
    text = _decode(content)
    if text is None:
        raise CredentialFileError(f"{path}: not UTF-8 text", "save it as UTF-8")
    values: dict[str, str] = {}
    for number, line in _logical_lines(text):
        key, value = _pair(line, f"{path}: line {number}")
        if key in values:
            raise CredentialFileError(f"{path}: line {number}: {shown(key)} is given twice", "remove one of the two")
        values[key] = value
    return Properties(path, values)


def _pair(line: str, place: str) -> tuple[str, str]:
    """Return key and value of a logical line.

    Raises:
        CredentialFileError: it has none, or a malformed escape.
    """
    found = _PAIR.fullmatch(line)
    key, value = (_unescaped(part, place).strip() for part in found.groups()) if found else ("", "")
    if not key:
        raise CredentialFileError(f"{place} is not KEY=VALUE", "write KEY=VALUE, or # before a comment")
    return key, value


_PAIR = re.compile(r"((?:[^\\\s=:]|\\.)+)\s*[=:](.*)", re.DOTALL)
_ESCAPE = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|(.)|\Z)", re.DOTALL)
_CONTROLS = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}


def _unescaped(text: str, place: str) -> str:
    """Return the text with each escape replaced by what it stands for.

    Raises:
        CredentialFileError: one stands for nothing.
    """
    plain = _ESCAPE.sub(_character, text)
    if any(found[2] == "u" for found in _ESCAPE.finditer(text)) or "\0" in plain:
        raise CredentialFileError(
            f"{place} has a backslash before u, and no character in four hexadecimal digits after it",
            "write the character itself, in UTF-8, or two backslashes where one is meant",
        )
    # Java writes a character beyond the first 65,536 as two code units.
    return plain.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _character(escape: re.Match[str]) -> str:
    code_unit, letter = escape[1], escape[2] or ""
    return chr(int(code_unit, 16)) if code_unit else _CONTROLS.get(letter, letter)


def _decode(content: bytes) -> str | None:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield the lines with content, joined where one ends in a backslash, each with the number of its first line."""
    joined, start = "", 0
    for number, raw in enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), 1):
        line = raw.lstrip()
        if not joined and (not line or line[0] in "#!"):
            continue
        start = start if joined else number
        joined += line
        if _continues(joined):
            joined = joined[:-1] or " "
            continue
        yield start, joined
        joined = ""
    if joined.strip():
        yield start, joined


def _continues(line: str) -> bool:
    """Return whether a line ends with an odd number of backslashes (java.util.Properties)."""
    return (len(line) - len(line.rstrip("\\"))) % 2 == 1

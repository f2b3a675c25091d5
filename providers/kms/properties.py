r"""The reader of `secretsmanager.properties`, the file of the official secrets-manager client, as Alibaba documents it.

The official reader (aliyun-secret-manager-client 0.1.5) raises on Python 3.11 and later (`open(…, "Ur")`), cuts
values at any `#`, and takes a missing file for an empty one. This one is strict instead; where the documentation says
nothing, Java's rules for properties hold:

* `key = value`, one a line; blanks around both are dropped; a `\` at the end joins the next line.
* `#` and `!` begin a comment at the start of a line only.
* UTF-8, with or without BOM; LF or CRLF. Other backslashes stay as they are, for JSON values.
* An empty value means "not given". A key given twice is an error.

Nobody else may write the file. If it holds a secret itself (`credentials_access_secret` or
`credentials_access_token`), nobody else may read it either; a file that only names other files may be read by all.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches

from agent.core.errors import CredentialFileError
from agent.core.secret import Secret
from agent.system.files import read_private
from providers.kms.password import PasswordSource
from providers.static_parts import read_open

LIMIT_BYTES = 64 * 1024

KNOWN_KEYS = frozenset(
    {
        "cache_client_dkms_config_info",
        "cache_client_region_id",
        "client_key_password_from_env_variable",
        "client_key_password_from_file_path",
        "client_key_private_key_path",
        "credentials_access_key_id",
        "credentials_access_secret",
        "credentials_access_token",
        "credentials_access_token_id",
        "credentials_role_arn",
        "credentials_role_name",
        "credentials_role_session_name",
        "credentials_type",
        "ignoreSSLCerts",
        "secret_names",
    }
)
"""The keys that the official client knows (its `env_const.py` and `const.py`)."""

SECRET_KEYS = ("credentials_access_secret", "credentials_access_token")
"""The keys whose values are secrets."""


@dataclass(frozen=True, slots=True)
class RegionEntry:
    """One object of `cache_client_region_id`."""

    region_id: str
    endpoint: str | None
    vpc: bool


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
            CredentialFileError: the path is relative. The official client would resolve it from its working directory.
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
        try:
            entries = json.loads(text)
        except (ValueError, RecursionError):
            entries = None
        if not isinstance(entries, list) or not entries:
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
        return RegionEntry(entry["regionId"], endpoint, truth[vpc])

    def _bad_regions(self, what: str) -> CredentialFileError:
        return CredentialFileError(
            f"{self.path}: cache_client_region_id: {what}",
            'write cache_client_region_id=[{"regionId":"cn-hangzhou"}], with "endpoint" or "vpc" where needed',
        )

    def unknown(self) -> Iterator[tuple[str, str | None]]:
        """Yield the keys that the official client does not know, each with the nearest known one."""
        for key in sorted(self.values.keys() - KNOWN_KEYS):
            yield key, next(iter(get_close_matches(key, KNOWN_KEYS, 1)), None)


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
    found = parse(read_open(path, LIMIT_BYTES, environ), path)
    if any(found.get(key) for key in SECRET_KEYS):
        return parse(read_private(path, LIMIT_BYTES, environ), path)
    return found


def client_key_password(read: Properties) -> PasswordSource:
    """Return the source of the ClientKey's password that the file names.

    Raises:
        CredentialFileError: the path is relative.
    """
    return PasswordSource(
        read.get("client_key_password_from_env_variable"), read.path_of("client_key_password_from_file_path")
    )


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
        key, separator, value = (part.strip() for part in line.partition("="))
        if not separator or not key:
            raise CredentialFileError(
                f"{path}: line {number} is not KEY=VALUE", "write KEY=VALUE, or # before a comment"
            )
        if key in values:
            raise CredentialFileError(f"{path}: line {number}: {key} is given twice", "remove one of the two")
        values[key] = value
    return Properties(path, values)


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
        line = raw.strip()
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

"""`cache_client_dkms_config_info` of the properties file: the gateways of dedicated KMS instances.

A JSON list of objects, as the clients and plug-ins for Python, Java and Go document it (aliyun-secret-manager-client 0.1.5,
`model/dkms_config.py` and `credentials_properties_utils.init_dkms_instances`; the README_config.md of
aliyun-secretsmanager-client-go and of the Go plug-in): `regionId`, `endpoint` and `clientKeyFile` are mandatory.

The password is what `passwordFromFilePath` holds; else the variable that the *property* named by `passwordFromEnvVariable`
names; else the file that the property, or the environment variable, named by `passwordFromFilePathName` names; else what the
variable `passwordFromEnvVariable` leads to (`PasswordSource.later`); else `client_key_password`; else the password of the
properties file's own ClientKey. Unlike the official clients, a password file that cannot be read, or a name that leads
nowhere, is an error here and no reason to look further.

The authority is `caFilePath`, or `caCert` where that is a path. A certificate in the file itself (`caCert`, `ca`) is refused
by name: what decides whom to trust is a file that others cannot write, and it is read anew when it changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from agent.core.errors import CredentialFileError
from agent.core.problem import Problem
from agent.core.settings import endpoint_fault
from agent.core.text import nearest
from providers.kms.password import PasswordSource
from providers.kms.properties import Properties, client_key_password, json_list, path_in, shown

KEY = "cache_client_dkms_config_info"

KNOWN = (
    "regionId",
    "endpoint",
    "clientKeyFile",
    "passwordFromFilePath",
    "passwordFromEnvVariable",
    "passwordFromFilePathName",
    "caFilePath",
    "caCert",
    "ca",
    "ignoreSslCerts",
)

_EXAMPLE = (
    f'write {KEY}=[{{"regionId":"cn-hangzhou","endpoint":"kst-….cryptoservice.kms.aliyuncs.com",'
    '"clientKeyFile":"/…","passwordFromFilePath":"/…","caFilePath":"/…"}]'
)


@dataclass(frozen=True, slots=True)
class Instance:
    """The gateway of one instance, and the ClientKey for it.

    Attributes:
        ca_file: the instance's own authority; it is trusted besides the system's store.
        ignored: the keys of the object that are without effect: unknown ones, and `ignoreSslCerts` when it is set.
    """

    region_id: str
    endpoint: str
    key_file: str
    password: PasswordSource
    ca_file: str | None
    ignored: tuple[str, ...] = ()

    def warnings(self) -> Iterator[Problem]:
        """Yield what is without effect."""
        for key in self.ignored:
            if key == "ignoreSslCerts":
                yield Problem(f"{KEY}: {key} is ignored: TLS is always verified", "remove it, and name caFilePath")
                continue
            meant = nearest(key, KNOWN)
            yield Problem(
                f"{KEY}: {shown(key)} is not a key that keyturn uses and is ignored",
                f"write {meant} if that is meant" if meant else "correct it, or leave it to the client that knows it",
            )


def instances(read: Properties, environ: Mapping[str, str]) -> tuple[Instance, ...]:
    """Return the instances in their order, none where the file names none.

    Raises:
        CredentialFileError: the value is not the documented JSON; the text names file and key.
    """
    text = read.get(KEY)
    if text is None:
        return ()
    entries = json_list(text)
    if not entries:
        raise _bad(read, "not a JSON list of instances")
    return tuple(_Entry(read, entry, environ).instance() for entry in entries)


class _Entry:
    """One object of the list."""

    def __init__(self, read: Properties, entry: object, environ: Mapping[str, str]) -> None:
        if not isinstance(entry, dict):
            raise _bad(read, "an instance that is not an object")
        self._read = read
        self._environ = environ
        self._entry: Mapping[str, object] = entry

    def instance(self) -> Instance:
        endpoint = self._need("endpoint")
        if fault := endpoint_fault(endpoint):
            raise _bad(self._read, f"endpoint: {fault}")
        return Instance(
            region_id=self._need("regionId"),
            endpoint=endpoint,
            key_file=self._absolute("clientKeyFile", self._need("clientKeyFile")),
            password=self._password(),
            ca_file=self._authority(),
            ignored=tuple(self._ignored()),
        )

    def _password(self) -> PasswordSource:
        general = client_key_password(self._read, self._environ)
        if file := self._path("passwordFromFilePath"):
            return PasswordSource(file=file)
        named, file_name = self._text("passwordFromEnvVariable"), self._text("passwordFromFilePathName")
        return PasswordSource(
            variable=self._read.get(named) if named else None,
            file=self._named_file(file_name) if file_name else None,
            later=named,
            otherwise=general,
        )

    def _named_file(self, name: str) -> str:
        found = self._read.path_of(name) or path_in(self._environ, name)
        if found is None:
            raise _bad(
                self._read,
                f"passwordFromFilePathName names {shown(name)}, which is neither a key of the file nor an environment variable",
                f"add a line: {shown(name)}=/…, or write the path itself as passwordFromFilePath",
            )
        return found

    def _authority(self) -> str | None:
        named = self._path("caFilePath")
        for key in ("caCert", "ca"):
            held = self._text(key)
            if held and held.startswith("/"):
                named = named or held
            elif held and not named:
                raise _bad(
                    self._read,
                    f"{key} holds something else than the absolute path of a certificate",
                    "save the certificate in a file, and write its path as caFilePath",
                )
        return named

    def _ignored(self) -> Iterator[str]:
        yield from sorted(self._entry.keys() - set(KNOWN))
        if self._entry.get("ignoreSslCerts") not in (None, "", False, "false"):
            yield "ignoreSslCerts"

    def _text(self, key: str) -> str | None:
        value = self._entry.get(key)
        if value is not None and not isinstance(value, str):
            raise _bad(self._read, f"{key} is not a text")
        return value or None

    def _need(self, key: str) -> str:
        value = self._text(key)
        if value is None:
            raise _bad(self._read, f"an instance without {key}")
        return value

    def _path(self, key: str) -> str | None:
        value = self._text(key)
        return self._absolute(key, value) if value else None

    def _absolute(self, key: str, path: str) -> str:
        if not path.startswith("/"):
            raise _bad(self._read, f"{key}: the path is relative", "write it from / on")
        return path


def _bad(read: Properties, what: str, remedy: str = _EXAMPLE) -> CredentialFileError:
    return CredentialFileError(f"{read.path}: {KEY}: {what}", remedy)

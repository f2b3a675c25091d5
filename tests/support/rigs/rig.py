"""What a rig is: a source that a test can bring up, change, break in every way, and heal; and what it stands on.

A rig belongs to one provider type. It says in TOML how the provider is configured, so that what is tested is what an
operator gets. The conformance suite drives the provider's class; tests/e2e/test_providers.py drives whole keyturns.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import socket
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar, Literal

from cryptography.hazmat.primitives.asymmetric import rsa

from providers.emulator import Cloud, EmulatorServer, Fault, MetadataServer
from providers.emulator.pki import CertificateKind

MANY = 100_000
"""So many calls in a row suffer an ordered fault: until it is healed."""

Gives = Literal["key", "session", "bearer"]


class Case(StrEnum):
    """What a source can do."""

    FETCH = "gives its value"
    UNCHANGED = "gives the same again"
    CHANGED = "gives another value"
    GONE = "is not there at all"
    THROTTLED = "has too many callers"
    FORBIDDEN = "does not let us"
    RUBBISH = "answers rubbish"
    HANG = "never answers"
    DRIP = "answers byte by byte"
    RESET = "breaks off"
    UNKNOWN_CA = "has a certificate of an unknown authority"
    WRONG_HOST = "has a certificate for another host"
    OVERSIZED = "answers without end"
    EMPTY = "answers nothing"
    WRONG_SHAPE = "answers something else"
    REDIRECT = "sends us elsewhere"
    EXPIRED = "gives what is dead already"


HEALTHY = (Case.FETCH, Case.UNCHANGED, Case.CHANGED)
FAILING = tuple(case for case in Case if case not in HEALTHY)


@dataclass(frozen=True)
class Verdict:
    """How an error has to behave: whether keyturn tries again soon, and the exit code of `once`."""

    retryable: bool
    exit_code: int


AGAIN = Verdict(retryable=True, exit_code=75)  # the source cannot answer just now
BAD = Verdict(retryable=True, exit_code=1)  # it answered what is no credential, which may mend itself
NO = Verdict(retryable=False, exit_code=1)  # it said no, or something on this machine must be mended
FORBIDDEN = Verdict(retryable=False, exit_code=77)

USUAL: Mapping[Case, Verdict] = {
    Case.GONE: AGAIN,
    Case.THROTTLED: AGAIN,
    Case.FORBIDDEN: FORBIDDEN,
    Case.RUBBISH: BAD,
    Case.HANG: AGAIN,
    Case.DRIP: AGAIN,
    Case.RESET: AGAIN,
    Case.UNKNOWN_CA: NO,
    Case.WRONG_HOST: NO,
    Case.OVERSIZED: BAD,
    Case.EMPTY: BAD,
    Case.WRONG_SHAPE: BAD,
    Case.REDIRECT: BAD,
    Case.EXPIRED: BAD,
}

FAULTS = {
    Case.RUBBISH: Fault.RUBBISH,
    Case.HANG: Fault.HANG,
    Case.DRIP: Fault.DRIP,
    Case.RESET: Fault.RESET,
    Case.OVERSIZED: Fault.OVERSIZED,
    Case.EMPTY: Fault.EMPTY,
    Case.WRONG_SHAPE: Fault.WRONG_SHAPE,
    Case.REDIRECT: Fault.REDIRECT,
}
CERTIFICATES: Mapping[Case, CertificateKind] = {Case.UNKNOWN_CA: "unknown_ca", Case.WRONG_HOST: "wrong_host"}

NO_TLS = "plain http on this machine's own addresses, which transport.py holds it to"


@functools.cache
def rsa_key() -> rsa.RSAPrivateKey:
    """One for all: making one takes a while."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


class Port:
    """A port of loopback that stays ours while nobody listens on it, so that a server can go away and come back."""

    def __init__(self) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", 0))
        self.number = int(self._socket.getsockname()[1])

    def close(self) -> None:
        self._socket.close()


class World:
    """An emulated cloud that providers ask at `front` and at the metadata service; files; an environment."""

    def __init__(self, directory: Path, cloud: Cloud, authority: Path, life_s: float | None = None) -> None:
        """Start serving.

        Args:
            directory: for the files of the rigs.
            cloud: what is served.
            authority: where the CA lies that certifies (`ca.pem`, `ca-key.pem`).
            life_s: how long sessions live, whatever was asked for; None: as long as was asked for.
        """
        self.directory, self.cloud, self.ca_file = directory, cloud, authority / "ca.pem"
        self._place = directory / "front"
        self._place.mkdir(mode=0o700)
        for file in ("ca.pem", "ca-key.pem"):
            shutil.copy2(authority / file, self._place)
        self.life_s = cloud.session_life_s = life_s
        self.environ = {"HOME": str(directory / "home"), "NO_PROXY": "127.0.0.1"}
        self._ports = (Port(), Port())
        self._certificate: CertificateKind = "good"
        self.front = EmulatorServer(cloud, self._place, port=self._ports[0].number)
        self.front.start()
        self._metadata: MetadataServer | None = None

    @property
    def metadata(self) -> MetadataServer:
        """The metadata service, which listens from its first use on."""
        return self._metadata or self._serve_metadata()

    def _serve_metadata(self) -> MetadataServer:
        self._metadata = MetadataServer(self.cloud, port=self._ports[1].number)
        self._metadata.start()
        return self._metadata

    def certify(self, kind: CertificateKind) -> None:
        """Go on at the same address with another certificate."""
        self.front.stop()
        self._certificate = kind
        self.front = EmulatorServer(self.cloud, self._place, port=self._ports[0].number, certificate=kind)
        self.front.start()

    def go(self) -> None:
        """Nobody listens any more."""
        self.front.stop()
        if self._metadata is not None:
            self._metadata.stop()

    def mend(self) -> None:
        """Everything is well again."""
        self.cloud.faults.clear()
        self.cloud.session_life_s = self.life_s
        if self._certificate != "good" or self.front.stopping.is_set():
            self.certify("good")
        if self._metadata is not None and self._metadata.stopping.is_set():
            self._serve_metadata()

    def close(self) -> None:
        self.go()
        for port in self._ports:
            port.close()

    def secrets(self) -> list[str]:
        """Every secret and token of the cloud, whoever was given it."""
        cloud = self.cloud
        keys, sessions = list(cloud._access_keys.values()), list(cloud._sessions.values())
        found = [each.access_key_secret for each in [*keys, *sessions]] + [each.security_token for each in sessions]
        return [*filter(None, found), *cloud._metadata_tokens, *cloud._bearer_tokens]

    def write(self, name: str, content: str | bytes, mode: int = 0o600) -> Path:
        """Put a file there in one step, so that no reader finds half of it."""
        path, fresh = self.directory / name, self.directory / f".{name.replace('/', '_')}.new"
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_bytes(content if isinstance(content, bytes) else content.encode())
        fresh.chmod(mode)
        os.replace(fresh, path)
        return path


def toml(fields: Mapping[str, Any]) -> str:
    """Lines of a table; JSON is TOML for texts, numbers, booleans and lists of texts."""
    return "".join(f"{key} = {json.dumps(value, default=str)}\n" for key, value in fields.items())


class Rig(ABC):
    """A source, and how a provider is pointed at it.

    Attributes:
        title: as the tests name it.
        type_name: the provider's, in the config.
        gives: what kind of value.
        makes_sessions: whether each answer is a new session, so that no two are equal.
        bound_s: how long a fetch may take in the cases that never end by themselves.
        warm: whether a fetch that goes well may come before a failing one; not where the provider keeps what then fails.
        lacks: the cases that cannot be, each with its reason.
        verdicts: the cases whose error behaves otherwise than usual, as the rig's docstring explains.
    """

    title: ClassVar[str]
    type_name: ClassVar[str]
    gives: ClassVar[Gives] = "key"
    makes_sessions: ClassVar[bool] = False
    bound_s: ClassVar[float] = 0.6
    warm: ClassVar[bool] = True
    lacks: ClassVar[Mapping[Case, str]] = {}
    verdicts: ClassVar[Mapping[Case, Verdict]] = {}

    def __init__(self, world: World) -> None:
        """Bring the source up, well."""
        self.world, self.cloud = world, world.cloud

    @abstractmethod
    def table(self, name: str) -> str:
        """The TOML of `[credentials.NAME.provider]`, without its header."""

    @abstractmethod
    def owner(self) -> str:
        """How the ARN ends that STS knows the value by."""

    @abstractmethod
    def change(self) -> None:
        """Have another value from now on."""

    @abstractmethod
    def suffer(self, case: Case) -> None:
        """Fail in this way from now on."""

    def heal(self) -> None:
        """Be well again."""
        self.world.mend()

    def close(self) -> None:
        """Leave nothing behind in this process."""

    def canaries(self) -> list[str]:
        """What may be shown nowhere: secrets, in pieces long enough to be no accident."""
        return self.world.secrets()

    @classmethod
    def cases(cls) -> list[Case]:
        """Those that can be."""
        return [case for case in Case if case not in cls.lacks]

    @classmethod
    def verdict(cls, case: Case) -> Verdict:
        """How the error has to behave."""
        return cls.verdicts.get(case, USUAL[case])


class ServedRig(Rig):
    """A source that is asked over the network: faults are ordered at the emulated cloud, by the name of an action."""

    action: ClassVar[str]
    throttled: ClassVar[str] = "Throttling.User"
    forbidden: ClassVar[str] = "NoPermission"
    own_words: ClassVar[bool] = True
    """Whether the service speaks JSON, so that an answer of the wrong shape can hold canaries."""

    def suffer(self, case: Case) -> None:
        if case in CERTIFICATES:
            self.world.certify(CERTIFICATES[case])
        elif case is Case.GONE:
            self.world.go()
        elif case is Case.EXPIRED:
            self.expire()
        elif case is Case.THROTTLED:
            self.cloud.fail_next(429, self.throttled, times=MANY, action=self.action, message=self._echo())
        elif case is Case.FORBIDDEN:
            self.cloud.fail_next(403, self.forbidden, times=MANY, action=self.action, message=self._echo())
        else:
            self.cloud.inject(FAULTS[case], times=MANY, action=self.action, body=self._body(case))

    def expire(self) -> None:
        """Sessions are dead when they are made."""
        self.cloud.session_life_s = -60.0

    def _echo(self) -> str:
        return "string to sign: " + " ".join(self.canaries())

    def _body(self, case: Case) -> str | None:
        """An answer that quotes secrets, where there is something to quote them in."""
        if case is Case.RUBBISH:
            return f"<html>{self._echo()}</html>"
        if case is Case.WRONG_SHAPE and self.own_words:
            return json.dumps({"Code": "Success", "Credentials": {}, "Echo": self._echo()})
        return None

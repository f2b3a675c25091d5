"""What one fetch costs, part by part, each beside what it would cost without what keyturn does about it.

    python -m bench.calls [--rounds 15]

The emulated cloud runs in a process of its own. Each pair is measured in turn in the same rounds: milliseconds of this
process's processor time, all its threads together, the least of all rounds, for other work on the machine only adds. The
yardstick loads the private key for each signature (as the official client's algorithm does), opens the ClientKey for each
credential, makes a TLS context and a connection for each call. In one pair it is less than what is measured: the same call
as a bare `http.client` makes it on a connection that it keeps; what is above that is ours, and `requests`'.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from unittest import mock

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from agent.cloud import acs3, tls
from agent.cloud.openapi import Sts
from agent.cloud.transport import Transport
from agent.core.credential import Credential
from agent.core.provider import ProviderContext
from agent.core.settings import CloudSettings
from bench.row import Row, add_option, show
from providers.kms import shared_gateway
from providers.kms.access import Access, ByClientKey, access_of
from providers.kms.client_key import ClientKey, ClientKeyFile, open_client_key
from providers.kms.failover import Question
from providers.kms.official_sdk import sha_hmac256
from providers.kms.properties import read
from providers.kms.secret import KmsSecret
from providers.kms.settings import KmsSecretSettings
from providers.kms.shared_gateway import HeldKeyAlgorithm, SharedGateway

ROOT = Path(__file__).resolve().parent.parent
Pair = tuple[str, Callable[[], object], Callable[[], object], int]


def now() -> datetime:
    return datetime.now(UTC)


class World:
    """What the emulator wrote: a ClientKey, a secret, and where to ask."""

    def __init__(self, directory: Path) -> None:
        config = tomllib.loads((directory / "providers" / "keyturn.toml").read_text())
        self.cloud = CloudSettings(**config["cloud"])
        self.ca_file = str(self.cloud.ca_file)
        tables = [table["provider"] for table in config["credentials"].values()]
        found = next(dict(table) for table in tables if table["type"] == "kms_secret")
        found.pop("poll_interval", None)
        self.settings = KmsSecretSettings(**found)
        self.access: Access = access_of(read(str(self.settings.properties_file), {}), {})
        assert isinstance(self.access.identity, ByClientKey)
        self.who = self.access.identity
        self.question = Question(self.settings.secret_name, "ACSCurrent")

    def key_file(self) -> ClientKeyFile:
        return ClientKeyFile(self.who.key_file, self.who.password, {})

    def fetched(self) -> Credential:
        return KmsSecret(self.settings, ProviderContext("bench", self.cloud)).fetch(now())


class OfficialAlgorithm(HeldKeyAlgorithm):
    """The official client's own way: the key is loaded for each signature."""

    def __init__(self, key: ClientKey) -> None:
        der = key.rsa.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        self._encoded = base64.b64encode(der).decode()

    def get_sign_string(self, source: str, access_secret: str) -> str:
        signature: str = sha_hmac256.get_sign_string(source, self._encoded)
        return signature


def pairs(world: World) -> list[Pair]:
    key_file = world.key_file()
    key, content = key_file.load(), Path(world.who.key_file).read_bytes()
    password, text = world.who.password.read({}), "GET&%2F&" + "x" * 500
    official, held = OfficialAlgorithm(key), HeldKeyAlgorithm(key)
    signer, region = world.fetched(), world.access.regions[0]
    alone, shared = Transport(world.ca_file), Transport(world.ca_file, shares=True)
    apart, together = Sts(alone, world.cloud.sts), Sts(shared, world.cloud.sts)
    bare = bare_call(world, signer)
    gateway = SharedGateway(region, key_file, shared)
    as_before = SharedGateway(region, key_file, alone)
    a_loaded_key = mock.patch.object(shared_gateway, "HeldKeyAlgorithm", lambda _key: official)

    def fetch_as_before() -> None:
        with a_loaded_key:
            as_before.ask(world.question, 10.0)

    return [
        (
            "a signature; the key loaded for each",
            lambda: held.get_sign_string(text, ""),
            lambda: official.get_sign_string(text, ""),
            10,
        ),
        (
            "a ClientKey that another credential opened; opened",
            lambda: world.key_file().load(),
            lambda: open_client_key(content, password, world.who.key_file),
            5,
        ),
        (
            "a TLS context looked up; built",
            lambda: tls.context_for((world.ca_file,)),
            lambda: tls._build((world.ca_file,)),
            5,
        ),
        (
            "GetCallerIdentity, connection shared; made",
            lambda: together.get_caller_identity(signer, now=now()),
            lambda: apart.get_caller_identity(signer, now=now()),
            20,
        ),
        (
            "GetCallerIdentity, connection shared; by http.client",
            lambda: together.get_caller_identity(signer, now=now()),
            bare,
            20,
        ),
        (
            "GetSecretValue by ClientKey; key loaded, connection made",
            lambda: gateway.ask(world.question, 10.0),
            fetch_as_before,
            10,
        ),
    ]


def bare_call(world: World, signer: Credential) -> Callable[[], None]:
    host = world.cloud.sts
    connection = http.client.HTTPSConnection(host, context=tls.context_for((world.ca_file,)), timeout=10)
    count = 0

    def call() -> None:
        nonlocal count
        count += 1
        nonce = f"bare-{time.time_ns()}-{count}"
        signed = acs3.sign("GetCallerIdentity", "2015-04-01", {}, signer, host=host, at=now(), nonce=nonce)
        connection.request("POST", f"/?{signed.query}", headers=dict(signed.headers))
        reply = connection.getresponse()
        reply.read()
        assert reply.status == 200, reply.status

    return call


def measure(act: Callable[[], object], times: int) -> float:
    """Milliseconds of the processor for each."""
    before = time.process_time()
    for _ in range(times):
        act()
    return (time.process_time() - before) / times * 1000


def rows(directory: Path, rounds: int) -> Iterator[Row]:
    for label, ours, other, times in pairs(World(directory)):
        ours(), other()
        found = [(measure(ours, times), measure(other, times)) for _ in range(rounds)]
        figure, yardstick = (min(column) for column in zip(*found, strict=True))
        yield Row(label, figure, "ms", yardstick)


def main() -> None:
    """Print a row for each part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--quick", action="store_true", help="one round: whether the program still runs")
    add_option(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        argv = [sys.executable, "-m", "agent", "emulator", "--directory", name]
        with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True) as emulator:
            try:
                assert emulator.stdout is not None
                if not any("ready" in line for line in emulator.stdout):
                    raise SystemExit("the emulator ended before it was ready")
                show(rows(Path(name), 1 if options.quick else options.rounds), options.json)
            finally:
                emulator.terminate()


if __name__ == "__main__":
    main()

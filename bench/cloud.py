"""What one answer costs the emulated cloud, and how many it gives a second: whether other benchmarks wait for it.

    python -m bench.cloud [--calls 1000]

Requests are signed beforehand and sent by four threads of this process: GetSecretValue signed with a ClientKey (RSA),
GetCallerIdentity signed with an AccessKey (HMAC), over connections that stay open and over one connection for each
call. The yardstick is an empty answer of the same server without TLS and without a signature.
"""

from __future__ import annotations

import argparse
import base64
import json
import socket
import ssl
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote, urlencode, urlsplit

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from agent.cloud import acs3
from agent.core.credential import Credential
from agent.core.secret import Secret
from bench.cloud_process import CloudProcess, secret_name
from bench.row import Row, add_option, show
from bench.watched_daemon import cpu_s
from providers.emulator.pki import read_client_key_file

THREADS = 4


def get_secret_value(host: str, key_id: str, key: RSAPrivateKey) -> bytes:
    """A signed request, as aliyun-python-sdk-core makes it (RPC style)."""
    parameters = {
        "AccessKeyId": key_id,
        "Action": "GetSecretValue",
        "Format": "JSON",
        "SecretName": secret_name(0),
        "SignatureMethod": "SHA256withRSA",
        "SignatureNonce": str(uuid.uuid4()),
        "SignatureType": "PRIVATEKEY",
        "SignatureVersion": "1.0",
        "Timestamp": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "Version": "2016-01-20",
    }
    canonical = urlencode(sorted(parameters.items()), quote_via=quote, safe="~")
    text = f"POST&%2F&{quote(canonical, safe='~')}".encode()
    parameters["Signature"] = base64.b64encode(key.sign(text, padding.PKCS1v15(), hashes.SHA256())).decode()
    return request(host, "/?" + urlencode(parameters), {"Content-Type": "application/x-www-form-urlencoded"})


def get_caller_identity(host: str, key: Credential) -> bytes:
    """A signed request, as the verification makes it."""
    signed = acs3.sign(
        "GetCallerIdentity", "2015-04-01", {}, key, host=host, at=datetime.now(UTC), nonce=str(uuid.uuid4())
    )
    headers = {name: value for name, value in signed.headers.items() if name != "host"}
    return request(host, "/" + (f"?{signed.query}" if signed.query else ""), headers)


def request(host: str, target: str, headers: dict[str, str]) -> bytes:
    lines = [f"POST {target} HTTP/1.1", f"Host: {host}", "Content-Length: 0"]
    return "\r\n".join([*lines, *(f"{name}: {value}" for name, value in headers.items()), "", ""]).encode()


class Client:
    """A thread's connection."""

    def __init__(self, host: str, context: ssl.SSLContext | None) -> None:
        name, port = host.split(":")
        plain = socket.create_connection((name, int(port)))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._channel = context.wrap_socket(plain, server_hostname=name) if context else plain

    def ask(self, sent: bytes) -> bytes:
        """Send a request; return the whole answer."""
        self._channel.sendall(sent)
        found = b""
        while True:
            part = self._channel.recv(65536)
            if not part:
                raise ConnectionError("the cloud closed the connection before it had answered")
            found += part
            head, end, body = found.partition(b"\r\n\r\n")
            if end and len(body) >= int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0]):
                return found

    def close(self) -> None:
        self._channel.close()


def send(host: str, context: ssl.SSLContext | None, requests: Sequence[bytes], keep: bool) -> None:
    client = Client(host, context) if keep else None
    for sent in requests:
        mine = client or Client(host, context)
        answer = mine.ask(sent)
        if not answer.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(answer.decode())
        if not client:
            mine.close()
    if client:
        client.close()


def measure(
    cloud: CloudProcess, host: str, context: ssl.SSLContext | None, requests: Sequence[bytes], keep: bool
) -> tuple[float, float]:
    """Return the milliseconds of the cloud's processor time for each call, and the calls a second."""
    cpu, began = cpu_s(cloud.pid), time.monotonic()
    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(lambda n: send(host, context, requests[n::THREADS], keep), range(THREADS)))
    took_s = time.monotonic() - began
    return (cpu_s(cloud.pid) - cpu) / len(requests) * 1000, len(requests) / took_s


def rows(directory: Path, calls: int) -> Iterator[Row]:
    cloud = CloudProcess(directory, 1)
    try:
        key_id, private = read_client_key_file(
            (directory / "clientKey.json").read_text(), (directory / "clientKey_password.txt").read_text()
        )
        kms, sts, told = cloud.endpoints["kms"], cloud.endpoints["sts"], urlsplit(cloud.told_url).netloc
        context = ssl.create_default_context(cafile=str(cloud.ca))
        reader = Client(kms, context)
        data = json.loads(reader.ask(get_secret_value(kms, key_id, private)).partition(b"\r\n\r\n")[2])["SecretData"]
        reader.close()
        found = json.loads(data)
        key = Credential(access_key_id=found["AccessKeyId"], access_key_secret=Secret(found["AccessKeySecret"]))
        for keep, how in ((True, "connection kept"), (False, "a connection each")):
            empty = [request(told, "/", {})] * calls
            bare_ms, bare_rate = measure(cloud, told, None, empty, keep)
            of_kms = [get_secret_value(kms, key_id, private) for _ in range(calls)]
            of_sts = [get_caller_identity(sts, key) for _ in range(calls)]
            for action, host, requests in (("GetSecretValue", kms, of_kms), ("GetCallerIdentity", sts, of_sts)):
                each_ms, rate = measure(cloud, host, context, requests, keep)
                yield Row(f"the cloud, {action}, {how}: CPU", each_ms, "ms", bare_ms)
                yield Row(f"the cloud, {action}, {how}: answers a second", rate, "/s", bare_rate)
    finally:
        cloud.close()


def main() -> None:
    """Print a row for each action and each kind of connection."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=1000)
    parser.add_argument("--quick", action="store_true", help="few calls: whether the program still runs")
    add_option(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        show(rows(Path(directory), 40 if options.quick else options.calls), options.json)


if __name__ == "__main__":
    main()

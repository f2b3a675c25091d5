"""Alibaba's own SDKs read every format that keyturn writes, each in a process of its own, and sign with it.

STS is asked at the emulator, over TLS, which checks signature and token. OSS and SLS are asked at a server on loopback
that writes the request down, and the signature is computed here from what Alibaba documents of it, not from an SDK.
The programs below are Alibaba's documented samples; each says which.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pytest

from agent.core.credential import Credential, part
from agent.core.secret import Secret
from agent.core.settings import FilePath
from agent.sinks.formats.aliyun_cli import AliyunCli, AliyunCliSettings
from agent.sinks.formats.ini import Ini, IniSettings
from agent.sinks.formats.template import Template, TemplateSettings
from agent.sinks.interface import FileSink, SinkContext
from providers.emulator import Cloud, EmulatorServer
from tests.support.sinks import env, ini, json_file, publish

SECONDS = 120

STS = """
# "Manage access credentials" of Alibaba Cloud SDK for Python: the default credential chain.
import sys
from alibabacloud_credentials.client import Client as CredentialClient
from alibabacloud_sts20150401.client import Client
from alibabacloud_tea_openapi.models import Config
config = Config(credential=CredentialClient(), endpoint=sys.argv[1], ca=sys.argv[2], read_timeout=30000)
print(Client(config).get_caller_identity().body.arn)
"""

OSS_1_ENVIRONMENT = """
# "Configure access credentials (Python SDK V1)", use the AccessKey pair of a RAM user, use an STS token.
import sys
import oss2
from oss2.credentials import EnvironmentVariableCredentialsProvider
auth = oss2.ProviderAuth(EnvironmentVariableCredentialsProvider())
oss2.Bucket(auth, sys.argv[1], 'bucket').put_object('dir/a b.txt', b'content')
"""

OSS_1_CREDENTIALS = """
# "Configure access credentials (Python SDK V1)", the wrapper around alibabacloud_credentials.
import sys
import oss2
from alibabacloud_credentials.client import Client
from oss2 import CredentialsProvider
from oss2.credentials import Credentials
class CredentialProviderWrapper(CredentialsProvider):
    def __init__(self, client):
        self.client = client
    def get_credentials(self):
        cred = self.client.get_credential()
        return Credentials(cred.access_key_id, cred.access_key_secret, cred.security_token)
auth = oss2.ProviderAuth(CredentialProviderWrapper(Client()))
oss2.Bucket(auth, sys.argv[1], 'bucket').put_object('dir/a b.txt', b'content')
"""

OSS_1_CONFIG_FILE = """
# A configuration file of one's own, read with configparser and handed to oss2.
import configparser
import sys
import oss2
config = configparser.ConfigParser()
config.read('config.ini')
section = config['configName']
id, secret = section['alibaba_cloud_access_key_id'], section['alibaba_cloud_access_key_secret']
token = section.get('alibaba_cloud_security_token')
auth = oss2.StsAuth(id, secret, token) if token else oss2.Auth(id, secret)
oss2.Bucket(auth, sys.argv[1], 'bucket').put_object('dir/a b.txt', b'content')
"""

OSS_2_ENVIRONMENT = """
# "OSS SDK for Python 2.0", quick start.
import sys
import alibabacloud_oss_v2 as oss
cfg = oss.config.load_default()
cfg.credentials_provider = oss.credentials.EnvironmentVariableCredentialsProvider()
cfg.region, cfg.endpoint, cfg.use_path_style = 'cn-hangzhou', sys.argv[1], True
request = oss.PutObjectRequest(bucket='bucket', key='dir/a b.txt', body=b'content')
assert oss.Client(cfg).put_object(request).status_code == 200
"""

SLS_ENVIRONMENT = """
# "Simple Log Service SDK for Python", the client from the environment.
import os
import sys
from aliyun.log import LogClient
id, secret = os.environ['ALIBABA_CLOUD_ACCESS_KEY_ID'], os.environ['ALIBABA_CLOUD_ACCESS_KEY_SECRET']
LogClient(sys.argv[1], id, secret, os.environ.get('ALIBABA_CLOUD_SECURITY_TOKEN')).list_project(size=7)
"""


@dataclass
class Asked:
    """One request as it came."""

    method: str
    path: str
    headers: dict[str, str]

    def header(self, name: str) -> str:
        return self.headers.get(name, "")

    def prefixed(self, *prefixes: str) -> list[tuple[str, str]]:
        return sorted((name, value) for name, value in self.headers.items() if name.startswith(prefixes))


@dataclass
class Front:
    """A server on loopback: writes down what it is asked, and serves one file."""

    served: Path
    asked: list[Asked] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Front]:
    """One such server."""
    front = Front(tmp_path / "credential.json")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.path == "/credential.json":
                self._answer(front.served.read_bytes())
            else:
                front.asked.append(Asked(self.command, self.path, {k.lower(): v for k, v in self.headers.items()}))
                self._answer(b'{"count": 0, "total": 0, "projects": []}' if self.command == "GET" else b"")

        do_PUT = do_GET

        def _answer(self, body: bytes) -> None:
            self.send_response(200)
            for name, value in {"x-oss-request-id": "1", "x-log-requestid": "1", "ETag": '"1"'}.items():
                self.send_header(name, value)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        front.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield front
        server.shutdown()
        thread.join()


@dataclass
class Account:
    """A user with an AccessKey, a session of it, and an STS that knows both."""

    server: EmulatorServer
    key: Credential
    session: Credential


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    """One account for all consumers."""
    cloud = Cloud()
    user = cloud.add_user("app")
    key, session = cloud.add_access_key("app"), cloud.new_session(user, "", 3600)
    server = EmulatorServer(cloud, tmp_path_factory.mktemp("emulator"))
    server.start()
    yield Account(
        server,
        Credential(key.access_key_id, Secret(key.access_key_secret)),
        Credential(session.access_key_id, Secret(session.access_key_secret), Secret(session.security_token)),
    )
    server.stop()


def run(home: Path, program: str, *arguments: str, **environment: str) -> str:
    """Run a sample as an application would run: in its own process, with a home of its own, from an env file if there is one."""
    start = 'if [ -e "$0" ]; then set -a; . "$0"; set +a; fi; exec "$@"'
    done = subprocess.run(
        ["/bin/sh", "-eu", "-c", start, str(home / "app.env"), sys.executable, "-c", program, *arguments],
        env={"HOME": str(home), "PATH": "/usr/bin:/bin", "NO_PROXY": "127.0.0.1", **environment},
        cwd=home,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


def cli(path: Path) -> FileSink:
    return AliyunCli(AliyunCliSettings(type="aliyun_cli", path=FilePath(path)))


def template(path: Path) -> FileSink:
    source = path.with_name("app.j2")
    source.write_text(
        "export ALIBABA_CLOUD_ACCESS_KEY_ID={{ access_key_id|quote }}\n"
        "export ALIBABA_CLOUD_ACCESS_KEY_SECRET={{ access_key_secret|quote }}\n"
        "{% if security_token %}export ALIBABA_CLOUD_SECURITY_TOKEN={{ security_token|quote }}\n{% endif %}"
    )
    return Template(TemplateSettings(type="template", path=FilePath(path), source=FilePath(source)), SinkContext("app"))


FORMATS: dict[str, tuple[str, Callable[[Path], FileSink]]] = {
    "env_file": ("app.env", env),
    "template": ("app.env", template),
    "aliyun_cli": (".aliyun/config.json", cli),
    "credentials_ini": (".alibabacloud/credentials.ini", ini),
    "json": ("credential.json", json_file),
}

READABLE = [
    (kind, what) for kind in FORMATS for what in ("key", "session") if (kind, what) != ("credentials_ini", "session")
]
"""A session in credentials.ini is refused by the SDK, of which `check` warns (test_credentials_ini.py)."""


def place(tmp_path: Path, kind: str) -> FileSink:
    """A sink of that type where the SDKs look for it."""
    name, make = FORMATS[kind]
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    return make(path)


@pytest.mark.parametrize(("kind", "what"), READABLE)
def test_the_credentials_sdk_signs_for_sts_with_every_format(
    tmp_path: Path, front: Front, account: Account, kind: str, what: str
) -> None:
    """The default chain finds the value where keyturn put it, and STS knows it by its signature and its token."""
    value: Credential = getattr(account, what)
    publish([place(tmp_path, kind)], value)
    environment = {"ALIBABA_CLOUD_CREDENTIALS_URI": f"{front.url}/credential.json"} if kind == "json" else {}
    said = run(tmp_path, STS, account.server.endpoint, str(account.server.ca_file), **environment)
    assert said.startswith("acs:ram::") and said.rstrip("/").endswith("user/app")


def oss_config(path: Path) -> FileSink:
    settings = IniSettings(type="ini", path=FilePath(path), keys="oss_config", section="configName")
    return Ini(settings)


OSS: dict[str, tuple[Callable[[Path], FileSink], str]] = {
    "oss2 from an env file": (lambda home: env(home / "app.env", variables=("oss",)), OSS_1_ENVIRONMENT),
    "oss2 through the credentials SDK": (lambda home: place(home, "aliyun_cli"), OSS_1_CREDENTIALS),
    "oss2 from a file of one's own": (lambda home: oss_config(home / "config.ini"), OSS_1_CONFIG_FILE),
    "alibabacloud_oss_v2": (lambda home: env(home / "app.env", variables=("oss",)), OSS_2_ENVIRONMENT),
}


@pytest.mark.parametrize("case", OSS)
@pytest.mark.parametrize("what", ["key", "session"])
def test_the_oss_sdks_sign_with_what_they_read(
    tmp_path: Path, front: Front, account: Account, case: str, what: str
) -> None:
    """The request that OSS gets carries this key, its secret's signature, and the token of a session."""
    value: Credential = getattr(account, what)
    make, program = OSS[case]
    publish([make(tmp_path)], value)
    run(tmp_path, program, front.url)
    (asked,) = front.asked
    assert (asked.method, unquote(asked.path)) == ("PUT", "/bucket/dir/a b.txt")
    assert asked.headers.get("x-oss-security-token") == part(value, "security_token")
    sign = oss_v4 if asked.header("authorization").startswith("OSS4") else oss_v1
    assert asked.header("authorization") == sign(asked, value)


@pytest.mark.parametrize("what", ["key", "session"])
def test_the_sls_sdk_signs_with_what_it_read(tmp_path: Path, front: Front, account: Account, what: str) -> None:
    """The request that the log service gets carries this key, its secret's signature, and the token of a session."""
    value: Credential = getattr(account, what)
    publish([env(tmp_path / "app.env")], value)
    run(tmp_path, SLS_ENVIRONMENT, front.url)
    (asked,) = front.asked
    assert asked.headers.get("x-acs-security-token") == part(value, "security_token")
    assert asked.header("authorization") == sls_v1(asked, value)


def test_a_signature_with_another_secret_is_not_ours(tmp_path: Path, front: Front, account: Account) -> None:
    """The three judges above do look at the secret."""
    publish([env(tmp_path / "app.env", variables=("oss", "alibaba_cloud"))], account.session)
    for program in (OSS_1_ENVIRONMENT, OSS_2_ENVIRONMENT, SLS_ENVIRONMENT):
        run(tmp_path, program, front.url)
    wrong = Credential(account.session.access_key_id, Secret("wrong"), account.session.security_token)
    for asked, sign in zip(front.asked, (oss_v1, oss_v4, sls_v1), strict=True):
        assert asked.header("authorization") == sign(asked, account.session) != sign(asked, wrong)


def _mac(key: bytes, text: str, digest: Any = hashlib.sha256) -> bytes:
    return hmac.new(key, text.encode(), digest).digest()


def _secret(value: Credential) -> str:
    return part(value, "access_key_secret") or ""


def oss_v1(asked: Asked, value: Credential) -> str:
    """OSS, "Include signatures in the Authorization header (V1)"."""
    lines = [asked.method, asked.header("content-md5"), asked.header("content-type"), asked.header("date")]
    lines += [f"{name}:{content}" for name, content in asked.prefixed("x-oss-")]
    signature = _mac(_secret(value).encode(), "\n".join([*lines, unquote(asked.path)]), hashlib.sha1)
    return f"OSS {value.access_key_id}:{base64.b64encode(signature).decode()}"


def oss_v4(asked: Asked, value: Credential) -> str:
    """OSS, "Include a V4 signature in the Authorization header"."""
    date = asked.header("x-oss-date")
    scope = [date[:8], "cn-hangzhou", "oss", "aliyun_v4_request"]
    signed = asked.prefixed("x-oss-", "content-type", "content-md5")
    headers = "".join(f"{name}:{content}\n" for name, content in signed)
    path = quote(unquote(asked.path))
    request = "\n".join([asked.method, path, "", headers, "", asked.header("x-oss-content-sha256")])
    text = "\n".join(["OSS4-HMAC-SHA256", date, "/".join(scope), hashlib.sha256(request.encode()).hexdigest()])
    key = f"aliyun_v4{_secret(value)}".encode()
    for each in scope:
        key = _mac(key, each)
    credential = f"Credential={value.access_key_id}/{'/'.join(scope)}"
    return f"OSS4-HMAC-SHA256 {credential},Signature={_mac(key, text).hex()}"


def sls_v1(asked: Asked, value: Credential) -> str:
    """SLS, "Request signatures"; x-log-date is added after signing (measured, SDK 0.9.52)."""
    lines = [asked.method, asked.header("content-md5"), asked.header("content-type"), asked.header("date")]
    lines += [f"{name}:{content}" for name, content in asked.prefixed("x-log-", "x-acs-") if name != "x-log-date"]
    path, _, query = asked.path.partition("?")
    resource = f"{path}?{'&'.join(sorted(query.split('&')))}" if query else path
    signature = _mac(_secret(value).encode(), "\n".join([*lines, resource]), hashlib.sha1)
    return f"LOG {value.access_key_id}:{base64.b64encode(signature).decode()}"

"""The documents: what the clients of each format parse, and the expiry that makes them ask again."""

import json
import shlex
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from alibabacloud_credentials.provider.external import ExternalCredentialsProvider

from agent.core.credential import Credential
from agent.core.errors import SourceRefusedError
from agent.core.secret import Secret
from agent.serving.document import WINDOWS_S, Format, document, named_expiry
from tests.support.sinks import key, session

NOW = datetime(2030, 1, 1, tzinfo=UTC)
EXPIRY = NOW + timedelta(seconds=240)
NAMED = "2030-01-01T00:04:00Z"


def said(value, form):
    return json.loads(document(value, form, EXPIRY))


def test_external_is_what_the_cli_documents():
    """A long-term key is mode AK without a token, a session is StsToken."""
    assert said(key(), Format.EXTERNAL) == {
        "mode": "AK",
        "access_key_id": "LTAI5tKey000001",
        "access_key_secret": "secretOf000001",
        "expiration": NAMED,
    }
    assert said(session(), Format.EXTERNAL)["mode"] == "StsToken"
    assert said(session(), Format.EXTERNAL)["sts_token"] == "CAISt0ken/of+000001=="


@pytest.mark.parametrize("value", [key(), session()], ids=["key", "session"])
def test_the_sdk_takes_the_external_document(tmp_path, value):
    """Alibaba's own client runs a command that prints it, and gets the value."""
    (tmp_path / "answer").write_bytes(document(value, Format.EXTERNAL, datetime(2099, 1, 1, tzinfo=UTC)))
    provider = ExternalCredentialsProvider(process_command=f"cat {shlex.quote(str(tmp_path / 'answer'))}")
    found = provider.get_credentials()
    assert found.get_access_key_id() == value.access_key_id
    assert Secret(found.get_access_key_secret()) == value.access_key_secret
    assert found.get_security_token() == (value.security_token.reveal() if value.security_token else None)


def test_the_uri_document_has_every_key_that_the_sdks_demand():
    """The SDK for Python refuses one that lacks a key; an empty token is none to it."""
    assert said(key(), Format.URI)["SecurityToken"] == ""
    assert set(said(session(), Format.URI)) == {
        "Code", "AccessKeyId", "AccessKeySecret", "SecurityToken", "Expiration",
    }  # fmt: skip


def test_ossfs_gets_no_empty_token():
    """A long-term key is said as Alibaba documents it, with an expiry besides."""
    assert said(key(), Format.OSSFS) == {
        "AccessKeyId": "LTAI5tKey000001",
        "AccessKeySecret": "secretOf000001",
        "Expiration": NAMED,
    }
    assert said(session(), Format.OSSFS)["SecurityToken"] == "CAISt0ken/of+000001=="


def test_env_is_read_back_by_a_shell():
    """Also a value with letters that mean something to it."""
    odd = replace(key(), access_key_secret=Secret("it's $HOME"))
    script = document(odd, Format.ENV, EXPIRY) + b'printf %s "$ALIBABA_CLOUD_ACCESS_KEY_SECRET"'
    assert subprocess.run(["sh"], input=script, capture_output=True, check=True).stdout == b"it's $HOME"


@pytest.mark.parametrize("form", Format)
def test_a_document_is_one_that_ends(form):
    """Each ends in a line feed, and no format holds a bearer token."""
    assert document(session(), form, EXPIRY).endswith(b"\n")
    with pytest.raises(SourceRefusedError):
        document(Credential(bearer_token=Secret("token")), form, EXPIRY)


@pytest.mark.parametrize(
    ("real_s", "named_s"),
    {"a key that lives on": (None, 240), "a long session": (3600, 240), "a short one": (100, 100)}.values(),
)
def test_the_expiry_is_the_earlier_one(real_s, named_s):
    """A client in use asks again `hold` after its question, and never believes that a value lives longer than it does."""
    real = None if real_s is None else NOW + timedelta(seconds=real_s)
    assert named_expiry(real, NOW, WINDOWS_S[Format.EXTERNAL], 60.0) == NOW + timedelta(seconds=named_s)

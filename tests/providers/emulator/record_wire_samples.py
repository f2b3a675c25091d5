"""Makes `wire_samples.json` anew: what the stock SDKs send, with keys that exist nowhere else.

Run by hand, from the root of the checkout, after an SDK was updated::

    python -m tests.emulator.record_wire_samples
"""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import os
import tempfile
import time
from pathlib import Path

from aliyunsdkcore.auth.credentials import RsaKeyPairCredential
from aliyunsdkcore.client import AcsClient
from aliyunsdkcore.profile import region_provider
from aliyunsdkkms.request.v20160120.GetSecretValueRequest import GetSecretValueRequest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from providers.emulator import Cloud, EmulatorServer
from providers.emulator.services import Reply
from providers.emulator.signatures import Request

ACCESS_KEY_ID, ACCESS_KEY_SECRET = "LTAI5tRecordedSample0001", "onlyForRecordedSamples00000001"
CLIENT_KEY_ID = "KAAP.00000000-0000-4000-8000-000000000001"
SECRET = "acs/ram/user/up loader+*~ä"
UNSIGNED = ("bearer", "anonymous")


def main() -> None:
    """Call each SDK once and keep the requests."""
    logging.disable(logging.CRITICAL)
    cloud = Cloud()
    cloud.add_user("recorder", "*")
    cloud.add_access_key("recorder", access_key_id=ACCESS_KEY_ID, access_key_secret=ACCESS_KEY_SECRET)
    cloud.add_ram_secret(SECRET, user="someone")
    client_key = cloud.add_client_key(key_id=CLIENT_KEY_ID)
    cloud.add_role("r", "*")
    session = cloud.assume_role(cloud.role_arn("r"), "recorder")
    pair = cloud.add_rsa_key_pair("recorder")
    samples: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as directory, EmulatorServer(cloud, Path(directory)) as server:
        serve = server.services.handle
        names: list[str] = []

        def record(request: Request) -> Reply:
            reply = serve(request)
            headers = dict(request.headers)
            if "user-agent" not in headers.get("authorization", ""):
                del headers["user-agent"]  # it names the machine, and is not signed here
            sample = {"name": names[-1], "at": int(time.time()), "method": request.method, "path": request.path}
            body = request.body.decode()
            samples.append({**sample, "query": request.query, "headers": headers, "body": body})
            return reply

        server.services.handle = record  # type: ignore[method-assign]
        for name, call in {**_calls(server, client_key), **_more_calls(server, session, pair)}.items():
            names.append(name)
            with contextlib.suppress(Exception):  # actions that the emulator does not know are recorded all the same
                call()
    assert client_key.private_key is not None
    public_key = client_key.public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    keys = {
        "access_key_id": ACCESS_KEY_ID,
        "access_key_secret": ACCESS_KEY_SECRET,
        "client_key_id": CLIENT_KEY_ID,
        "client_public_key": public_key,
        "session_id": session.access_key_id,
        "session_secret": session.access_key_secret,
        "session_token": session.security_token,
        "rsa_key_id": pair.public_key_id,
        "rsa_public_key": pair.public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode(),
    }
    unsigned = [sample for sample in samples if str(sample["name"]).startswith(UNSIGNED)]
    samples = [sample for sample in samples if sample not in unsigned]
    target = Path(__file__).with_name("wire_samples.json")
    recorded = {**keys, "secret": SECRET, "samples": samples, "unsigned": unsigned}
    target.write_text(json.dumps(recorded, indent=1, ensure_ascii=False) + "\n")
    print("\n".join(f"{sample['name']}: {sample['method']}" for sample in samples + unsigned))


def _calls(server, client_key):  # type: ignore[no-untyped-def]
    from alibaba_cloud_secretsmanager_client.auth.client_key_signer import ClientKeySigner
    from alibabacloud_credentials.provider import RamRoleArnCredentialsProvider
    from alibabacloud_kms20160120 import models as kms_models
    from alibabacloud_kms20160120.client import Client as Kms
    from alibabacloud_ram20150501 import models as ram_models
    from alibabacloud_ram20150501.client import Client as Ram
    from alibabacloud_sts20150401.client import Client as Sts
    from alibabacloud_tea_openapi.models import Config
    from aliyunsdkcore.auth.algorithm import sha_hmac256

    ca = str(server.ca_file)
    os.environ["REQUESTS_CA_BUNDLE"] = os.environ["SSL_CERT_FILE"] = ca  # for the one SDK that takes no CA
    config = Config(access_key_id=ACCESS_KEY_ID, access_key_secret=ACCESS_KEY_SECRET, endpoint=server.endpoint, ca=ca)
    region_provider.add_endpoint("kms", "xx-record", server.endpoint)
    acs_options = {"region_id": "xx-record", "verify": ca, "auto_retry": False}

    def get_secret_value() -> GetSecretValueRequest:
        request = GetSecretValueRequest()
        request.set_SecretName(SECRET)
        request.set_VersionStage("ACSCurrent")
        request.set_FetchExtendedConfig(True)
        request.set_accept_format("JSON")
        return request

    def by_client_key() -> None:
        der = client_key.private_key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        body = base64.b64encode(der).decode()
        request = get_secret_value()
        request._signer = sha_hmac256  # as the official client does it
        client = AcsClient(credential=RsaKeyPairCredential(CLIENT_KEY_ID, body, 900), **acs_options)
        client._implementation_of_do_action(request, ClientKeySigner(CLIENT_KEY_ID, body))

    def assume_role() -> None:
        RamRoleArnCredentialsProvider(
            access_key_id=ACCESS_KEY_ID,
            access_key_secret=ACCESS_KEY_SECRET,
            role_arn="acs:ram::1:role/r",
            role_session_name="recorder",
            sts_endpoint=server.endpoint,
        ).get_credentials()

    acs = AcsClient(ak=ACCESS_KEY_ID, secret=ACCESS_KEY_SECRET, **acs_options)

    def by_get() -> None:
        request = get_secret_value()
        request.set_method("GET")
        acs.do_action_with_exception(request)

    def by_form() -> None:
        request = get_secret_value()
        request.set_body_params({"Recipient": "a b+c*d~e/ä"})
        acs.do_action_with_exception(request)

    return {
        "core POST, ClientKey, GetSecretValue": by_client_key,
        "core POST, HMAC-SHA1, GetSecretValue": lambda: acs.do_action_with_exception(get_secret_value()),
        "core GET, HMAC-SHA1, GetSecretValue": by_get,
        "core POST with a form, HMAC-SHA1, GetSecretValue": by_form,
        "credentials GET, HMAC-SHA1, AssumeRole": assume_role,
        "kms ACS3, RotateSecret": lambda: Kms(config).rotate_secret(
            kms_models.RotateSecretRequest(secret_name=SECRET, version_id="v 1+*~ä")
        ),
        "kms ACS3 with a form, PutSecretValue": lambda: Kms(config).put_secret_value(
            kms_models.PutSecretValueRequest(secret_name=SECRET, version_id="v2", secret_data="a b+c*d~e/ä")
        ),
        "sts ACS3, GetCallerIdentity": lambda: Sts(config).get_caller_identity(),
        "ram ACS3, ListAccessKeys": lambda: Ram(config).list_access_keys(
            ram_models.ListAccessKeysRequest(user_name="recorder")
        ),
    }


def _more_calls(server, session, pair):  # type: ignore[no-untyped-def]
    from alibabacloud_sts20150401 import models as sts_models
    from alibabacloud_sts20150401.client import Client as Sts
    from alibabacloud_tea_openapi.models import Config
    from aliyunsdkcore.auth.credentials import StsTokenCredential
    from aliyunsdkcore.auth.signers.rsa_key_pair_signer import GetSessionAkRequest

    ca = str(server.ca_file)
    tea = {"endpoint": server.endpoint, "ca": ca}
    parts = (session.access_key_id, session.access_key_secret, session.security_token)
    by_session = dict(zip(("access_key_id", "access_key_secret", "security_token"), parts, strict=True))
    region_provider.add_endpoint("sts", "xx-record", server.endpoint)
    options = {"region_id": "xx-record", "verify": ca, "auto_retry": False}

    def get_secret_value() -> None:
        request = GetSecretValueRequest()
        request.set_SecretName(SECRET)
        AcsClient(credential=StsTokenCredential(*parts), **options).do_action_with_exception(request)

    def with_key_pair() -> None:
        der = pair.private_key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        request = GetSessionAkRequest()
        request.set_method("GET")
        request.set_duration_seconds(900)
        secret = base64.b64encode(der).decode()
        AcsClient(ak=pair.public_key_id, secret=secret, **options).do_action_with_exception(request)

    oidc = sts_models.AssumeRoleWithOIDCRequest(
        role_arn="acs:ram::1:role/r", oidcprovider_arn="acs:ram::1:oidc-provider/p", oidctoken="a.b.c", policy="{ }"
    )
    return {
        "core POST with a session, HMAC-SHA1, GetSecretValue": get_secret_value,
        "core GET, RSA key pair, GenerateSessionAccessKey": with_key_pair,
        "sts ACS3 with a session, GetCallerIdentity": lambda: Sts(Config(**tea, **by_session)).get_caller_identity(),
        "bearer, GetCallerIdentity": lambda: Sts(Config(**tea, bearer_token="b" * 20)).get_caller_identity(),
        "anonymous, AssumeRoleWithOIDC": lambda: Sts(Config(**tea)).assume_role_with_oidc(oidc),
    }


if __name__ == "__main__":
    main()

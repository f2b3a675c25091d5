"""The directory holds what a VM needs, in the documented formats, and private where it must be."""

from __future__ import annotations

import json
import os
import stat
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests
from alibabacloud_kms20160120 import models as kms_models
from alibabacloud_kms20160120.client import Client as Kms
from alibabacloud_ram20150501 import models as ram_models
from alibabacloud_ram20150501.client import Client as Ram
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from providers.emulator import Cloud, MetadataServer, write_directory
from providers.emulator.model import ClientKey, RsaKeyPair
from providers.emulator.pki import client_key_file, read_client_key_file
from providers.emulator.private_files import write_private

if TYPE_CHECKING:
    from .conftest import World


def test_secrets_are_private_and_the_rest_can_be_read(world: World) -> None:
    """0600 for keys, passwords and tokens, whatever the umask; 0700 for directories but those on the way to the socket."""
    files = world.files
    for path in (
        files.admin_header,
        files.client_key,
        files.client_key_password,
        files.authority_id,
        files.authority_secret,
    ):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    for directory in (files.directory, files.directory / "run"):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o711, "others cannot use `keyturn credential`"
    assert stat.S_IMODE(files.app.stat().st_mode) == 0o700
    assert not [path for path in files.directory.rglob(".*")], "a temporary file was left behind"


def test_a_private_file_is_private_from_its_first_instant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mode is given to open(2) itself, also where a readable file is replaced under a lax umask."""
    modes: list[int] = []
    real_open = os.open

    def watching_open(path: str, flags: int, mode: int = 0o777) -> int:
        descriptor = real_open(path, flags, mode)
        modes.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        assert flags & os.O_EXCL
        return descriptor

    target = tmp_path / "key"
    target.write_text("old")
    target.chmod(0o644)
    monkeypatch.setattr(os, "open", watching_open)
    umask = os.umask(0)
    try:
        write_private(target, "new")
    finally:
        os.umask(umask)
    assert modes == [0o600]
    assert (target.read_text(), stat.S_IMODE(target.stat().st_mode)) == ("new", 0o600)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    """What cannot replace its target cleans up after itself."""
    (tmp_path / "target").mkdir()
    with pytest.raises(OSError):
        write_private(tmp_path / "target", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_the_client_key_file_has_the_documented_form(world: World) -> None:
    """KeyId and PrivateKeyData, a PKCS#12 in base64 that its password opens and no other does."""
    text, password = world.files.client_key.read_text(), world.files.client_key_password.read_text()
    assert set(json.loads(text)) == {"KeyId", "PrivateKeyData"}
    key_id, private_key = read_client_key_file(text, password)
    known = world.cloud.client_keys()[-1]
    assert key_id == known.key_id
    assert private_key.public_key() == known.public_key
    assert private_key.key_size == 2048
    assert 8 <= len(password) <= 64
    with pytest.raises(ValueError):
        read_client_key_file(text, password + "x")


def test_a_client_key_without_its_private_half_cannot_be_written(world: World) -> None:
    """The emulator says so instead of writing half a file."""
    known = world.cloud.client_keys()[-1]
    with pytest.raises(ValueError, match="not known"):
        client_key_file(ClientKey(known.key_id, known.public_key), "password")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"KeyId": "a", "PrivateKeyData": "!"}'])
def test_what_is_no_client_key_file_is_a_value_error(text: str) -> None:
    """One kind of error for every kind of damage."""
    with pytest.raises(ValueError):
        read_client_key_file(text, "password")


def test_the_properties_are_those_of_the_official_client(world: World) -> None:
    """Exactly the documented names; the region list is JSON and names this server."""
    lines = dict(line.split("=", 1) for line in world.files.properties.read_text().splitlines())
    regions = json.loads(lines.pop("cache_client_region_id"))
    assert regions == [{"regionId": "cn-hangzhou", "endpoint": world.server.endpoint, "vpc": False}]
    assert lines == {
        "credentials_type": "client_key",
        "client_key_private_key_path": str(world.files.client_key),
        "client_key_password_from_file_path": str(world.files.client_key_password),
    }


def test_the_official_client_understands_the_properties(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own parser reads the file; only its `open` mode, gone since Python 3.11, is put right here."""
    from alibaba_cloud_secretsmanager_client.utils import config_utils

    monkeypatch.setattr(config_utils, "open", lambda path, mode: Path(path).open(mode.replace("U", "")), raising=False)  # noqa: SIM115
    read = config_utils.Properties(str(world.files.properties)).get_properties()
    assert read["credentials_type"] == "client_key"
    assert json.loads(read["cache_client_region_id"])[0]["endpoint"] == world.server.endpoint


def test_the_config_is_toml_and_names_files_that_exist(world: World) -> None:
    """One credential, two sinks, an emergency authority, everything under the directory."""
    config = tomllib.loads(world.files.config.read_text())
    cloud, uploader = config["cloud"], config["credentials"]["uploader"]
    assert {cloud["sts_endpoint"], cloud["kms_endpoint"], cloud["ram_endpoint"]} == {world.server.endpoint}
    assert uploader["provider"] == {
        "type": "kms_secret",
        "secret_name": "uploader-ak",
        "properties_file": str(world.files.properties),
        "poll_interval": "1s",
    }
    assert [sink["type"] for sink in uploader["sinks"]] == ["credentials_ini", "env_file"]
    authority = uploader["emergency"]["authority"]
    for path in (
        cloud["ca_file"],
        config["agent"]["state_directory"],
        config["agent"]["runtime_directory"],
        Path(config["agent"]["audit"]["path"]).parent,
        *(Path(sink["path"]).parent for sink in uploader["sinks"]),
        authority["access_key_id_from_file_path"],
        authority["access_key_secret_from_file_path"],
    ):
        assert Path(path).exists(), path
        assert Path(path).is_relative_to(world.files.directory)


def test_the_authority_can_do_an_emergency_and_no_more(world: World) -> None:
    """Rotate, describe, list, disable: yes. Reading the secret: no."""
    assert world.files.authority_id.read_text() == world.ops.access_key_id
    assert world.files.authority_secret.read_text() == world.ops.access_key_secret
    kms, ram, old = world.tea(Kms, world.ops), world.tea(Ram, world.ops), world.key
    kms.rotate_secret(kms_models.RotateSecretRequest(secret_name="uploader-ak", version_id="v1"))
    ask = ram_models.UpdateAccessKeyRequest
    ram.update_access_key(ask(user_name="uploader", user_access_key_id=old.access_key_id, status="Inactive"))
    with pytest.raises(Exception, match=r"Forbidden\.RAM"):
        kms.get_secret_value(kms_models.GetSecretValueRequest(secret_name="uploader-ak"))


def test_a_client_key_survives_a_restart(make_world: Callable[[], World]) -> None:
    """A daemon that has loaded the ClientKey goes on working with the next emulator in the same directory."""
    first = make_world()
    text = first.files.client_key.read_text()
    first.server.stop()
    second = make_world()
    assert second.files.client_key.read_text() == text
    _, cache = second.official_client()
    assert json.loads(cache.get_secret_info("uploader-ak").secret_value)["AccessKeyId"] == second.key.access_key_id


def test_a_damaged_client_key_is_made_anew(tmp_path: Path) -> None:
    """A file that does not open any more is replaced, not tripped over."""
    files = write_directory(tmp_path, Cloud(), "127.0.0.1:1")
    files.client_key.write_text("{}")
    cloud = Cloud()
    write_directory(tmp_path, cloud, "127.0.0.1:1")
    key_id, _ = read_client_key_file(files.client_key.read_text(), files.client_key_password.read_text())
    assert cloud.client_keys()[-1].key_id == key_id


# The examples for all other providers


@pytest.fixture
def metadata(world: World) -> Iterator[MetadataServer]:
    """The world's instance, and the directory written with its address."""
    with MetadataServer(world.cloud) as server:
        write_directory(world.files.directory, world.cloud, world.server.endpoint, metadata_url=server.url)
        yield server


def test_without_a_metadata_service_there_are_no_examples(world: World) -> None:
    """The directory is what it always was."""
    assert not world.files.examples.directory.exists()


def test_the_examples_show_one_credential_of_each_other_kind(world: World, metadata: MetadataServer) -> None:
    """TOML with state of its own, files that exist, and nothing that two credentials would write."""
    files = world.files.examples
    config = tomllib.loads(files.config.read_text())
    credentials = config["credentials"]
    assert {each["provider"]["type"] for each in credentials.values()} == {
        "kms_secret",
        "ram_role_arn",
        "ecs_ram_role",
        "credentials_uri",
        "oidc_role_arn",
        "rsa_key_pair",
    }
    sinks = [sink["path"] for each in credentials.values() for sink in each["sinks"]]
    assert len(set(sinks)) == len(credentials)
    usual = tomllib.loads(world.files.config.read_text())
    assert config["cloud"] == usual["cloud"]
    assert config["agent"]["state_directory"] != usual["agent"]["state_directory"]
    for path in (
        config["cloud"]["ca_file"],
        config["agent"]["state_directory"],
        config["agent"]["runtime_directory"],
        Path(config["agent"]["audit"]["path"]).parent,
        *(Path(path).parent for path in sinks),
        credentials["uploader"]["provider"]["properties_file"],
    ):
        assert Path(path).exists(), path


def test_what_the_examples_name_works(world: World, metadata: MetadataServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Role, metadata service, credentials URI, OIDC token and RSA key: each gives credentials."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    files, cloud = world.files.examples, world.cloud
    config = tomllib.loads(files.config.read_text())["credentials"]
    role_arn = config["session"]["provider"]["role_arn"]
    assert cloud.assume_role(role_arn, "tester", caller=world.key).principal.name == "app"
    url = files.metadata_url.read_text()
    assert url == metadata.url == config["instance"]["provider"]["metadata_endpoint"]
    assert requests.get(url + "/latest/meta-data/ram/security-credentials/", timeout=10).text == "app"
    uri = files.credentials_uri.read_text()
    assert uri == config["neighbour"]["provider"]["credentials_uri"]
    assert requests.get(uri, timeout=10).json()["AccessKeyId"] == cloud.instance_session().access_key_id
    pod = config["pod"]["provider"]
    token = Path(pod["oidc_token_file_path"]).read_text()
    cloud.assume_role_with_oidc(pod["oidc_provider_arn"], pod["role_arn"], token, "tester")
    pair = cloud.authenticate(config["keypair"]["provider"]["public_key_id"])
    private_key = load_pem_private_key(Path(config["keypair"]["provider"]["private_key_file"]).read_bytes(), None)
    assert isinstance(pair, RsaKeyPair) and isinstance(private_key, RSAPrivateKey)
    assert private_key.public_key() == pair.public_key


def test_secrets_of_the_examples_are_private(world: World, metadata: MetadataServer) -> None:
    """0600 for the token and the key."""
    files = world.files.examples
    for path in (files.oidc_token, files.rsa_key):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_writing_twice_makes_no_second_authority_key(world: World) -> None:
    """The same world may be written again, for another endpoint for example."""
    ops = world.ops
    write_directory(world.files.directory, world.cloud, "127.0.0.1:1")
    assert world.cloud.keys_of("ops") == [ops]

"""ClientKey files and their passwords: what opens, what does not, and why, each in its own sentence."""

from __future__ import annotations

import base64
import gc
import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, pkcs12

from agent.core.errors import CredentialFileError, NotPermittedError, SourceUnavailableError
from agent.core.secret import Secret
from providers.emulator import Cloud
from providers.emulator.pki import client_key_file
from providers.kms import client_key
from providers.kms.client_key import ClientKey, ClientKeyFile, PasswordSource, open_client_key

PASSWORD = "Pass~word#1"
Write = Callable[[Path, bytes | str], Path]


def console_file(key_id: str, key: rsa.RSAPrivateKey) -> str:
    return client_key_file(Cloud().add_client_key(key_id=key_id, private_key=key), PASSWORD)


@pytest.fixture
def content(rsa_key: rsa.RSAPrivateKey) -> str:
    """A file as the console makes it."""
    return console_file("KAAP.1234", rsa_key)


def test_a_console_file_opens(content: str, rsa_key: rsa.RSAPrivateKey) -> None:
    """Key id, private key and the end of the certificate are taken from it, and the key does not print itself."""
    key = open_client_key(content.encode(), Secret(PASSWORD), "k.json")
    assert key.rsa.private_numbers() == rsa_key.private_numbers()
    assert key.key_id == "KAAP.1234"
    assert key.expires_at is not None
    assert key.expires_at > datetime.now(UTC)
    assert "MII" not in repr(key)


def test_a_clientkey_signs(content: str, rsa_key: rsa.RSAPrivateKey) -> None:
    """RSASSA-PKCS1-v1_5 over SHA-256, the same for the same message, and the key shows nothing of itself."""
    key = open_client_key(content.encode(), Secret(PASSWORD), "k.json")
    rsa_key.public_key().verify(key.sign(b"message"), b"message", padding.PKCS1v15(), hashes.SHA256())
    assert key.sign(b"message") == key.sign(b"message")
    assert "rsa" not in repr(key)


def test_a_byte_order_mark_and_wrapped_base64_are_fine(content: str) -> None:
    """Files that went through an editor or `base64` still open."""
    fields = json.loads(content)
    fields["PrivateKeyData"] = base64.encodebytes(base64.b64decode(fields["PrivateKeyData"])).decode()
    assert open_client_key(json.dumps(fields).encode("utf-8-sig"), Secret(PASSWORD), "k").key_id == "KAAP.1234"


def pkcs12_of(key: object, password: bytes = PASSWORD.encode()) -> str:
    der = pkcs12.serialize_key_and_certificates(b"x", key, None, None, BestAvailableEncryption(password))  # type: ignore[arg-type]
    return base64.b64encode(der).decode()


BROKEN: dict[str, tuple[object, str]] = {
    "no JSON": (b"-----BEGIN PRIVATE KEY-----", "not a JSON object"),
    "empty": (b"", "not a JSON object"),
    "a list": ([1], "not a JSON object"),
    "no id": ({"PrivateKeyData": "x"}, "has no KeyId"),
    "an id that is no text": ({"KeyId": 7, "PrivateKeyData": "x"}, "has no KeyId"),
    "an id with a line break": ({"KeyId": "a\nb", "PrivateKeyData": "x"}, "has no KeyId"),
    "no key": ({"KeyId": "KAAP.1"}, "has no PrivateKeyData"),
    "no base64": ({"KeyId": "KAAP.1", "PrivateKeyData": "!!"}, "not a whole PKCS#12"),
    "no PKCS#12": ({"KeyId": "KAAP.1", "PrivateKeyData": "TUlJ"}, "not a whole PKCS#12"),
    "a PKCS#12 cut short": ({"KeyId": "KAAP.1", "PrivateKeyData": "MIIKUgIBAzCC"}, "not a whole PKCS#12"),
}


@pytest.mark.parametrize("story", BROKEN)
def test_each_broken_file_has_its_sentence(story: str) -> None:
    """The sentence names the file and what it lacks."""
    given, words = BROKEN[story]
    data = given if isinstance(given, bytes) else json.dumps(given).encode()
    with pytest.raises(CredentialFileError, match=r"/etc/k\.json: ") as caught:
        open_client_key(data, Secret(PASSWORD), "/etc/k.json")
    assert words in caught.value.problem
    assert caught.value.remedy


def test_a_wrong_password_is_told_apart_from_a_wrong_file(content: str) -> None:
    """The password is blamed, and not shown."""
    with pytest.raises(CredentialFileError, match="the password does not open") as caught:
        open_client_key(content.encode(), Secret("CanaryPassword"), "k.json")
    assert "CanaryPassword" not in f"{caught.value} {caught.value!r} {caught.value.__context__}"


def test_a_key_that_is_not_rsa_is_refused() -> None:
    """The gateway takes RSA signatures only."""
    data = {"KeyId": "KAAP.1", "PrivateKeyData": pkcs12_of(ec.generate_private_key(ec.SECP256R1()))}
    with pytest.raises(CredentialFileError, match="no RSA private key"):
        open_client_key(json.dumps(data).encode(), Secret(PASSWORD), "k.json")


def test_a_file_without_a_certificate_opens(rsa_key: rsa.RSAPrivateKey) -> None:
    """The certificate only tells the end of validity."""
    data = {"KeyId": "KAAP.1", "PrivateKeyData": pkcs12_of(rsa_key)}
    assert open_client_key(json.dumps(data).encode(), Secret(PASSWORD), "k").expires_at is None


@pytest.mark.parametrize("text", [PASSWORD, PASSWORD + "\n", PASSWORD + "\r\n", f"\ufeff{PASSWORD}\n"], ids=repr)
def test_the_password_file_is_stripped(text: str, tmp_path: Path, private: Write) -> None:
    """A line break after the password, or a byte order mark before it, is not part of it."""
    file = private(tmp_path / "password", text)
    assert PasswordSource(file=str(file)).read({}).reveal() == PASSWORD


ORDER: dict[str, tuple[str | None, bool, dict[str, str], str]] = {
    "the named variable first": ("NAME", True, {"NAME": "from-name", "client_key_password": "x"}, "from-name"),
    "then the file": ("NAME", True, {"client_key_password": "x"}, "from-file"),
    "the file before the general variables": (
        None, True, {"client_key_password": "x", "client_key_password_from_env_variable": "O", "O": "y"}, "from-file",
    ),
    "then the variable that a variable names": (
        None, False, {"client_key_password_from_env_variable": "OTHER", "OTHER": "from-other"}, "from-other",
    ),
    "then the general variable": ("NAME", False, {"client_key_password": "from-general"}, "from-general"),
    "a name is not a password": (
        None, False, {"client_key_password_from_env_variable": "OTHER", "client_key_password": "from-general"},
        "from-general",
    ),
}  # fmt: skip


@pytest.mark.parametrize("story", ORDER)
def test_the_password_is_looked_up_in_the_official_order(story: str, tmp_path: Path, private: Write) -> None:
    """Variable, file, then the environment's general variables, as the official client does."""
    variable, with_file, environ, expected = ORDER[story]
    file = str(private(tmp_path / "password", "from-file\n")) if with_file else None
    assert PasswordSource(variable, file).read(environ).reveal() == expected


@pytest.mark.parametrize(
    ("source", "environ", "words"),
    [
        (PasswordSource("NAME"), {}, "client_key_password_from_env_variable names, .* is not set"),
        (PasswordSource("Canary1"), {"Canary1": ""}, "client_key_password_from_env_variable holds is no name"),
        (PasswordSource(), {}, "given nowhere"),
        (PasswordSource(), {"client_key_password_from_env_variable": "TYPO"}, "given nowhere"),
    ],
)
def test_a_missing_password_is_told(source: PasswordSource, environ: dict[str, str], words: str) -> None:
    """The sentence names the key, never what it holds; a variable's name never becomes the password."""
    with pytest.raises(CredentialFileError, match=words) as caught:
        source.read(environ)
    assert "Canary" not in str(caught.value)


@pytest.mark.parametrize(("text", "words"), [("", "is empty"), ("\n", "is empty"), (b"\xff\xfe", "not UTF-8")])
def test_a_password_file_without_a_password(text: bytes | str, words: str, tmp_path: Path, private: Write) -> None:
    """An empty or binary password file is named."""
    file = private(tmp_path / "password", text)
    with pytest.raises(CredentialFileError, match=f"{file}: .*{words}"):
        PasswordSource(file=str(file)).read({})


class Disk:
    """A ClientKey and its password on disk."""

    def __init__(self, directory: Path, content: str, write: Write) -> None:
        self.key, self.password = directory / "k.json", directory / "password"
        write(self.key, content)
        write(self.password, PASSWORD)
        self.file = ClientKeyFile(str(self.key), PasswordSource(file=str(self.password)), {})


@pytest.fixture
def disk(tmp_path: Path, content: str, private: Write) -> Disk:
    """Both files, private."""
    return Disk(tmp_path, content, private)


def test_an_unchanged_file_is_not_opened_again(disk: Disk) -> None:
    """The same object comes back."""
    assert disk.file.load() is disk.file.load()


@pytest.fixture
def openings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of the ClientKeys that are really opened, in order."""
    found: list[str] = []

    def opening(content: bytes, password: Secret, path: str) -> ClientKey:
        found.append(path)
        return open_client_key(content, password, path)

    monkeypatch.setattr("providers.kms.client_key.open_client_key", opening)
    return found


def of_disk(disk: Disk) -> ClientKeyFile:
    return ClientKeyFile(str(disk.key), PasswordSource(file=str(disk.password)), {})


def test_many_that_start_at_once_open_one_file_once(disk: Disk, openings: list[str]) -> None:
    """Forty credentials with the same ClientKey, each on its own thread, pay for one opening and sign with one key."""
    files = [of_disk(disk) for _ in range(40)]
    with ThreadPoolExecutor(len(files)) as pool:
        keys = set(map(id, pool.map(ClientKeyFile.load, files)))
    assert (len(keys), openings) == (1, [str(disk.key)])


def test_a_replaced_key_is_opened_once_for_all(
    disk: Disk, openings: list[str], rsa_key: rsa.RSAPrivateKey, private: Write
) -> None:
    """A rotated ClientKey reaches every credential that names the file, with one more opening."""
    files = [of_disk(disk) for _ in range(3)]
    for file in files:
        file.load()
    private(disk.key.with_name("new"), console_file("KAAP.new", rsa_key)).rename(disk.key)
    assert [file.load().key_id for file in files] == ["KAAP.new"] * 3
    assert len(openings) == 2


def test_a_key_that_does_not_open_is_tried_once_for_all(disk: Disk, openings: list[str]) -> None:
    """A wrong password costs one opening, every credential is told, and the right one is used as soon as it is there."""
    disk.password.write_text("another")
    files = [of_disk(disk) for _ in range(3)]
    for file in files * 2:
        with pytest.raises(CredentialFileError, match=r"k\.json: the password does not open"):
            file.load()
    assert len(openings) == 1
    disk.password.write_text(PASSWORD)
    assert [file.load().key_id for file in files] == ["KAAP.1234"] * 3


def test_another_password_for_the_same_file_is_no_way_in(disk: Disk, private: Write) -> None:
    """A credential with a wrong password is refused although another one has opened the file with the right one."""
    disk.file.load()
    wrong = private(disk.password.with_name("wrong"), "another")
    with pytest.raises(CredentialFileError, match="the password does not open"):
        ClientKeyFile(str(disk.key), PasswordSource(file=str(wrong)), {}).load()


def test_an_opened_key_is_forgotten_with_its_last_user(disk: Disk, openings: list[str]) -> None:
    """What no credential names any more does not stay in memory: the next one opens it anew."""
    of_disk(disk).load()
    gc.collect()
    of_disk(disk).load()
    assert len(openings) == 2


def test_whoever_waits_for_others_keeps_the_deadline(disk: Disk) -> None:
    """While another ClientKey takes its time to open, a fetch ends with its own deadline, as one that is tried again."""
    with client_key._one_at_a_time, pytest.raises(SourceUnavailableError, match=str(disk.key)):
        disk.file.load(timeout_s=0.05)
    assert disk.file.load().key_id == "KAAP.1234"


def test_a_replaced_key_is_used_at_once(disk: Disk, rsa_key: rsa.RSAPrivateKey, private: Write) -> None:
    """A new ClientKey put in place by rename is opened at the next load."""
    disk.file.load()
    private(disk.key.with_name("new"), console_file("KAAP.new", rsa_key)).rename(disk.key)
    assert disk.file.load().key_id == "KAAP.new"


def test_a_changed_password_is_noticed(disk: Disk) -> None:
    """A password that no longer fits is an error, not a forgotten one."""
    disk.file.load()
    disk.password.write_text("another")
    with pytest.raises(CredentialFileError, match="the password does not open"):
        disk.file.load()


def test_a_key_that_lost_its_privacy_is_refused(disk: Disk) -> None:
    """Permissions are looked at again when they change, also on a key that was opened before."""
    disk.file.load()
    disk.key.chmod(0o644)
    with pytest.raises(CredentialFileError, match="0644"):
        disk.file.load()


@pytest.mark.parametrize("name", ["k.json", "password"])
def test_a_missing_file_is_named(disk: Disk, name: str) -> None:
    """Key or password: the sentence says which, also after it was there."""
    disk.file.load()
    (disk.key.parent / name).unlink()
    with pytest.raises(CredentialFileError, match=rf"{name}: this file is missing"):
        disk.file.load()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read_is_a_question_of_rights(disk: Disk) -> None:
    """The error exits with 77 and names the file."""
    disk.key.chmod(0o000)
    with pytest.raises(NotPermittedError, match=str(disk.key)):
        disk.file.load()

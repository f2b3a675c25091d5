"""The official client's properties file, read strictly and alike on every Python."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from alibaba_cloud_secretsmanager_client.utils import config_utils
from hypothesis import given
from hypothesis import strategies as st

from agent.core.errors import CredentialFileError
from providers.kms.access import ByClientKey, access_of
from providers.kms.properties import KNOWN_KEYS, LIMIT_BYTES, SECRET_KEYS, Properties, RegionEntry, parse, read

DOCUMENTED = """\
# the type of the access credential
credentials_type=client_key
# the key
client_key_private_key_path=/etc/keyturn/clientKey.json
client_key_password_from_file_path=/etc/keyturn/password.txt
# the region
cache_client_region_id=[{"regionId":"cn-hangzhou"},{"regionId":"cn-shanghai","vpc":true,"endpoint":"kms.example:1"}]
"""


def values(text: str | bytes) -> dict[str, str]:
    return parse(text if isinstance(text, bytes) else text.encode(), "p").values


SAMPLE = Path(__file__).parents[3] / "secretsmanager.example.properties"


def uncommented(*alternative: str) -> str:
    """The sample with these keys in the place of its own: what its comments say can be done."""
    lines = SAMPLE.read_text().splitlines()
    return "\n".join(
        line.removeprefix("# ") for line in lines if line.startswith(tuple(f"# {key}=" for key in alternative))
    )


def test_the_sample_is_what_both_readers_understand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Alibaba's own parser and ours find the same in it; it, and what its comments offer, have no key that is not documented."""
    monkeypatch.setattr(config_utils, "open", lambda path, mode: Path(path).open(mode.replace("U", "")), raising=False)  # noqa: SIM115
    ours = parse(SAMPLE.read_bytes(), "sample")
    assert config_utils.Properties(str(SAMPLE)).get_properties() == ours.values
    assert list(ours.unknown()) == []
    access = access_of(ours, {})
    assert isinstance(access.identity, ByClientKey) and access.identity.key_file == "/etc/keyturn/client_key.json"
    assert [one.region_id for one in access.regions] == ["cn-hangzhou"]
    other = parse(uncommented("cache_client_dkms_config_info").encode(), "dedicated")
    assert list(other.unknown()) == [] and access_of(other, {})
    by_variable = parse(uncommented("client_key_password_from_env_variable").encode(), "variable")
    assert list(by_variable.unknown()) == [] and by_variable.values


def test_the_documented_file() -> None:
    """Alibaba's example reads as it is meant."""
    found = parse(DOCUMENTED.encode(), "p")
    assert found.need("credentials_type") == "client_key"
    assert found.path_of("client_key_private_key_path") == "/etc/keyturn/clientKey.json"
    assert found.regions() == (
        RegionEntry("cn-hangzhou", None, False),
        RegionEntry("cn-shanghai", "kms.example:1", True),
    )
    assert list(found.unknown()) == []


SPELLINGS: dict[str, tuple[str | bytes, dict[str, str]]] = {
    "blanks around": ("  a \t=  b c \n", {"a": "b c"}),
    "a # inside a value stays": ("a=b#c\n", {"a": "b#c"}),
    "an = inside a value stays": ("a=b=c==\n", {"a": "b=c=="}),
    "a dot in a key stays": ("a.b=c\n", {"a.b": "c"}),
    "comments with blanks before": ("  # x=y\n\t! z=w\na=b\n", {"a": "b"}),
    "no line break at the end": ("a=b", {"a": "b"}),
    "CRLF": ("a=b\r\nc=d\r\n", {"a": "b", "c": "d"}),
    "CR alone": ("a=b\rc=d\r", {"a": "b", "c": "d"}),
    "a byte order mark": ("a=b\n".encode("utf-8-sig"), {"a": "b"}),
    "an empty value": ("a=\nb=c\n", {"a": "", "b": "c"}),
    "a continued line": ('a=[{"x":\\\n   "y"}]\nc=d\n', {"a": '[{"x":"y"}]', "c": "d"}),
    "a # in a continuation is no comment": ("a=b\\\n#c\n", {"a": "b#c"}),
    "two backslashes at the end are one, and no continuation": ("a=b\\\\\nc=d\n", {"a": "b\\", "c": "d"}),
    "a continuation into the end": ("a=b\\", {"a": "b"}),
    "a comment does not continue": ("# x\\\na=b\n", {"a": "b"}),
    "characters beyond ASCII": ("a=ü\n", {"a": "ü"}),
    "nothing": ("", {}),
}


@pytest.mark.parametrize("story", SPELLINGS)
def test_each_spelling_has_one_meaning(story: str) -> None:
    """What the documentation leaves open follows Java's properties, and nothing is cut off."""
    text, expected = SPELLINGS[story]
    assert values(text) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"a=b\nCanary\n", "line 2 is not KEY=VALUE"),
        (b"a=b\n=Canary\n", "line 2 is not KEY=VALUE"),
        (b"a=1\n# c\na=Canary\n", "line 3: a is given twice"),
        (b"a=\\\n1\nCanary\n", "line 3 is not KEY=VALUE"),
        ("a=Canary\n".encode("utf-16"), "not UTF-8 text"),
        (b"a=Canary\0\n", "not UTF-8 text"),
        (b"a=Canary\xff\n", "not UTF-8 text"),
    ],
)
def test_a_malformed_file_is_told_with_its_line(text: bytes, words: str) -> None:
    """File, line and remedy are named, the content is not quoted."""
    with pytest.raises(CredentialFileError, match=f"/etc/p: {words}") as caught:
        parse(text, "/etc/p")
    assert "Canary" not in str(caught.value)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("json", "words"),
    [
        ("", "is missing"),
        ("cn-hangzhou", "not a JSON list"),
        ("[]", "not a JSON list"),
        ('{"regionId":"x"}', "not a JSON list"),
        ("[" * 20_000, "not a JSON list"),
        ('["cn-hangzhou"]', "without a regionId"),
        ('[{"regionId":7}]', "without a regionId"),
        ('[{"regionId":"x","endpoint":7}]', "endpoint that is not a text"),
        ('[{"regionId":"x","vpc":"yes"}]', "vpc that is neither"),
        ('[{"regionId":"x","vpc":7}]', "vpc that is neither"),
        ('[{"regionId":"x","vpc":[]}]', "vpc that is neither"),
    ],
)
def test_regions_that_are_none(json: str, words: str) -> None:
    """The key is named, and how it is written."""
    with pytest.raises(CredentialFileError, match=f"/etc/p: cache_client_region_id.*{words}"):
        Properties("/etc/p", {"cache_client_region_id": json}).regions()


@pytest.mark.parametrize(("vpc", "expected"), [("true", True), ("false", False), ("null", False), ('"true"', True)])
def test_vpc_may_be_written_as_a_text(vpc: str, expected: bool) -> None:
    """JSON's true and the word mean the same."""
    text = f'[{{"regionId":"x","endpoint":"","vpc":{vpc}}}]'
    assert Properties("p", {"cache_client_region_id": text}).regions() == (RegionEntry("x", None, expected),)


def test_a_misspelt_key_gets_its_nearest() -> None:
    """An unknown key is found, and what may have been meant."""
    found = parse(b"client_key_pasword_from_file_path=/x\nzzz=1\nsecret_names=a\n", "p")
    assert list(found.unknown()) == [
        ("client_key_pasword_from_file_path", "client_key_password_from_file_path"),
        ("zzz", None),
    ]


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """The official client goes on without; here the file is named."""
    with pytest.raises(CredentialFileError, match=r"secretsmanager\.properties: this file is missing"):
        read(str(tmp_path / "secretsmanager.properties"), {})


def test_a_file_may_be_reached_through_a_link(tmp_path: Path) -> None:
    """Kubernetes hands files out through links."""
    (tmp_path / "real").write_text("a=b\n")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert read(str(tmp_path / "link"), {}).values == {"a": "b"}


@pytest.mark.parametrize("mode", [0o660, 0o602])
def test_a_file_that_others_can_write_is_an_error(tmp_path: Path, mode: int) -> None:
    """It says to which endpoint the ClientKey goes; of a link, the file at its end counts."""
    path, link = tmp_path / "real", tmp_path / "link"
    path.write_text("a=b\n")
    link.symlink_to(path)
    path.chmod(mode)
    for name in (path, link):
        with pytest.raises(CredentialFileError, match=f"its mode {mode:04o} lets others") as caught:
            read(str(name), {})
        assert caught.value.remedy == f"chmod go-w {name}"
    path.chmod(0o644)
    assert read(str(link), {}).values == {"a": "b"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_somebody_else_is_an_error(tmp_path: Path) -> None:
    """Its owner can change it, whatever its mode says."""
    path = tmp_path / "secretsmanager.properties"
    path.write_text("a=b\n")
    path.chmod(0o400)
    os.chown(path, 65534, -1)
    with pytest.raises(CredentialFileError, match="who could change it") as caught:
        read(str(path), {})
    assert caught.value.remedy == f"chown root {path}"


def test_what_is_no_file_or_too_large_is_an_error(tmp_path: Path) -> None:
    """A directory and a giant are refused."""
    with pytest.raises(CredentialFileError, match="not a regular file"):
        read(str(tmp_path), {})
    (tmp_path / "giant").write_bytes(b"#" * (LIMIT_BYTES + 1))
    with pytest.raises(CredentialFileError, match="larger than"):
        read(str(tmp_path / "giant"), {})


def test_values_do_not_print_themselves() -> None:
    """A file may hold an AccessKey: not in a repr, and what is a secret comes out as one."""
    found = parse(b"credentials_access_secret=Canary\n", "p")
    assert "Canary" not in repr(found)
    assert "Canary" not in f"{found.secret('credentials_access_secret')}"
    assert found.secret("credentials_access_secret").reveal() == "Canary"
    with pytest.raises(CredentialFileError, match="credentials_access_token is missing"):
        found.secret("credentials_access_token")


@pytest.mark.parametrize("key", SECRET_KEYS)
def test_a_file_that_holds_a_secret_is_for_its_owner_alone(key: str, tmp_path: Path) -> None:
    """Every key with a secret counts, whatever the type; without one the file may be read by all."""
    path = tmp_path / "secretsmanager.properties"
    path.write_text(f"{key}=Canary\n")
    path.chmod(0o644)
    with pytest.raises(CredentialFileError, match="its mode 0644") as caught:
        read(str(path), {})
    assert caught.value.remedy == f"chmod 600 {path}"
    path.chmod(0o600)
    assert read(str(path), {}).values == {key: "Canary"}
    path.write_text(f"{key}=\n")
    path.chmod(0o644)
    assert read(str(path), {}).get(key) is None


@given(st.binary(max_size=200))
def test_any_bytes_end_in_values_or_in_one_sentence(content: bytes) -> None:
    """No content makes the reader fail in another way."""
    try:
        found = parse(content, "p")
    except CredentialFileError as error:
        assert error.problem.startswith("p: ")
    else:
        assert all(key and key == key.strip() for key in found.values)


@given(st.dictionaries(st.sampled_from(sorted(KNOWN_KEYS)), st.text('ab#=!:{}"[], ', max_size=20)))
def test_what_is_written_is_read(written: dict[str, str]) -> None:
    """Keys and values without line breaks and backslashes survive, but for the blanks around them."""
    text = "".join(f"{key} = {value}\n" for key, value in written.items())
    assert values(text) == {key: value.strip() for key, value in written.items()}

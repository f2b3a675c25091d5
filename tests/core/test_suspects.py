"""Secrets that stand where something else belongs are told by their shape."""

import pytest

from agent.core.secret import SHOWN
from agent.core.suspects import looks_secret, variable_name, without_suspects

SECRET = "abCD12efGH34ijKL56mnOP78qrST90"  # 30 letters and digits, as AccessKey secrets are
TOKEN = "CAIS" + "aB3/+=" * 40


@pytest.mark.parametrize("name", ["KEYTURN_PW", "A", "client_key_password", "_X1"])
def test_names_of_variables_are_shown(name: str) -> None:
    """Upper case as environments have it, and the lower case of Alibaba's clients."""
    assert variable_name(name) == name


@pytest.mark.parametrize(
    "written", ["Pa55-word", "Pa55word", SECRET, TOKEN, "hunter2", "with blank", "A" * 64, "", "pässwörd"]
)
def test_what_may_be_a_password_is_not(written: str) -> None:
    """Mixed case, signs, tokens, and words without an underscore."""
    assert variable_name(written) is None


@pytest.mark.parametrize(
    "word",
    [
        "LTAI5tAbcdefghijklmnopqrstuv",
        "STS.NUxyzABC123",
        "uploader",
        "a" * 30,
        "KeyturnCredentialIsExpiringNow",
        "/etc/keyturn/" + "x" * 60,
        "3.14",
    ],
)
def test_ids_words_and_paths_are_no_suspects(word: str) -> None:
    """What an operator writes in a reason."""
    assert not looks_secret(word)


@pytest.mark.parametrize(
    "word", [SECRET, "fXbIdyMfbhZRtdQRvYKzjwjqzpuIxS", TOKEN, "eyJhbGciOiJSUzI1NiJ9." + "aB3d" * 30]
)
def test_secrets_and_tokens_are_suspects_and_are_marked(word: str) -> None:
    """Wherever they stand in a sentence."""
    assert looks_secret(word)
    assert without_suspects(f"pasted: '{word}', on a wiki") == f"pasted: '{SHOWN}', on a wiki"


@pytest.mark.parametrize("text", ["id=LTAI5t:{}.", "see {}/x", "{}, {}", "AccessKeySecret={};"])
def test_a_secret_is_found_whatever_stands_around_it(text: str) -> None:
    """A full stop, an equals sign, a slash."""
    assert SECRET not in without_suspects(text.format(SECRET, SECRET))

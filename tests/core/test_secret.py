"""A secret does not print itself."""

import copy
import json
import pickle

import pytest

from agent.core.credential import Credential
from agent.core.secret import SHOWN, Secret

CANARY = "CanarySecret0123456789abcdefgh"


@pytest.mark.parametrize(
    "show",
    [repr, str, "{}".format, "{!r:>40}".format, lambda s: f"{s:s}", lambda s: f"{s} {[s]!r}", lambda s: str({"k": s})],
)
def test_no_way_of_formatting_shows_the_value(show):
    """However a Secret gets into a text, the text holds the placeholder and not the value."""
    text = show(Secret(CANARY))
    assert CANARY not in text
    assert SHOWN in text


@pytest.mark.parametrize("leak", [json.dumps, pickle.dumps, copy.copy, copy.deepcopy, vars, list])
def test_serializers_are_refused(leak):
    """Nothing that writes objects out can write a Secret out."""
    with pytest.raises(TypeError):
        leak(Secret(CANARY))


def test_a_credential_shows_its_id_and_not_its_secrets():
    """A Credential in a log line names the key and hides the rest."""
    shown = repr(Credential("LTAI1", Secret(CANARY), Secret(CANARY + "t"), Secret(CANARY + "b")))
    assert "LTAI1" in shown
    assert CANARY not in shown


def test_equality_is_by_value_and_the_hash_tells_nothing():
    """Equal secrets are equal, different ones are not, and all hash alike."""
    assert Secret("a") == Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert hash(Secret("a")) == hash(Secret("b"))
    assert not Secret("") and Secret("x")


def test_only_text_is_a_secret():
    """Bytes are refused, so that nobody reveals b'...' into a file."""
    with pytest.raises(TypeError):
        Secret(b"raw")  # type: ignore[arg-type]

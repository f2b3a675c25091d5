"""The public half of a provider refuses what no provider should have returned."""

from datetime import UTC, datetime, timedelta

import pytest

from agent.core.credential import Credential
from agent.core.errors import BadAnswerError, SourceUnavailableError
from agent.core.provider import Provider, ProviderContext
from agent.core.provider_guard import MAX_PART_BYTES
from agent.core.secret import Secret
from agent.core.settings import ProviderSettings

NOW = datetime(2026, 11, 22, tzinfo=UTC)
CANARY = "CanaryTokenValue"


class Given(Provider):
    """A provider that answers what a test gives it."""

    type_name, Settings = "given", ProviderSettings

    def _fetch(self, timeout_s):
        if isinstance(self.settings, BaseException):
            raise self.settings
        return self.settings


def fetch(answer):
    return Given(answer, ProviderContext("uploader")).fetch(NOW)


GOOD = Credential("LTAI1", Secret("s3"))

BAD = {
    "is not a credential": {"AccessKeyId": CANARY},
    "has no access_key_id": Credential("", Secret(CANARY)),
    "has no access_key_secret": Credential("LTAI1", Secret("")),
    "has no security_token": Credential("LTAI1", Secret("s"), Secret("")),
    "has no bearer_token": Credential(bearer_token=Secret("")),
    "has an access_key_secret with a blank": Credential("LTAI1", Secret(CANARY + " x")),
    "has a security_token with a blank, a control": Credential("LTAI1", Secret("s"), Secret(CANARY + "\n")),
    "outside ASCII": Credential("LTAI1", Secret(CANARY + "é")),
    "of more than": Credential("LTAI1", Secret("s"), Secret("t" * (MAX_PART_BYTES + 1))),
    "is already expired": Credential("LTAI1", Secret("s"), expiration=NOW),
    "without a time zone": Credential("LTAI1", Secret("s"), expiration=datetime(2027, 1, 1)),
}


@pytest.mark.parametrize("words", BAD)
def test_unusable_answers_are_refused(words):
    """Each unusable answer is one sentence that names the credential and not the value."""
    with pytest.raises(BadAnswerError) as caught:
        fetch(BAD[words])
    assert words in str(caught.value)
    assert "credentials.uploader" in str(caught.value)
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize(
    "answer",
    [
        GOOD,
        Credential(bearer_token=Secret("b")),
        Credential("STS.x", Secret("s"), Secret("t+/="), expiration=NOW + timedelta(1)),
    ],
)
def test_usable_answers_pass(answer):
    """A key, a session and a bearer token come through as they are."""
    assert fetch(answer) is answer


def test_a_foreign_exception_becomes_a_sentence_without_its_text():
    """What a provider's library puts into an exception may be a signed URL: only the type's name is shown."""
    with pytest.raises(BadAnswerError) as caught:
        fetch(RuntimeError(f"https://kms/?Signature={CANARY}"))
    assert "RuntimeError" in str(caught.value)
    assert CANARY not in str(caught.value)
    assert caught.value.__cause__ is None and caught.value.__suppress_context__


def test_our_own_errors_pass_through():
    """A provider that says how it failed is believed."""
    with pytest.raises(SourceUnavailableError, match="down"):
        fetch(SourceUnavailableError("down"))

"""The public half of a provider: what it refuses, and what it makes of a provider's failures."""

import asyncio
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from agent.core.credential import Credential
from agent.core.errors import EXIT_CONFIG, BadAnswerError, ConfigError, SourceRefusedError, SourceUnavailableError
from agent.core.provider import POLL_INTERVAL_S, Provider, ProviderContext
from agent.core.provider_guard import MAX_PART_BYTES, MAX_TEXT_CHARS
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


class Text(str):
    """What lxml and others return for a str."""


class Moment(datetime):
    """What pendulum and others return for a datetime."""


LATER = NOW + timedelta(hours=1)

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
    "after the year": Credential("LTAI1", Secret("s"), expiration=datetime.max.replace(tzinfo=UTC)),
    "an expiration of the wrong type": Credential("LTAI1", Secret("s"), expiration=Moment(2027, 1, 1, tzinfo=UTC)),
    "an access_key_id of the wrong type": Credential(Text("LTAI1"), Secret(CANARY)),
    "an access_key_secret of the wrong type": Credential("LTAI1", CANARY),
    "a bearer_token of the wrong type": Credential(bearer_token=7),
    "a version_id that is not one short line": Credential("LTAI1", Secret("s"), version_id=f"v1\n{CANARY}"),
    "a request_id that is not one short line": Credential("LTAI1", Secret("s"), request_id=f"1\n{CANARY}"),
    "a time of creation of the wrong type": Credential("LTAI1", Secret("s"), created_at="yesterday"),
    "a time of creation without a time zone": Credential("LTAI1", Secret("s"), created_at=datetime(2026, 1, 1)),
    "a ram_user_name that is not one short line": Credential("LTAI1", Secret("s"), ram_user_name=CANARY * 100),
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
        Credential("LTAI1", Secret("s"), expiration=LATER.astimezone(ZoneInfo("Asia/Shanghai")), version_id="v1"),
    ],
)
def test_usable_answers_pass(answer):
    """A key, a session and a bearer token come through as they are."""
    assert fetch(answer) is answer


FOREIGN = {
    "an exception": RuntimeError(f"https://kms/?Signature={CANARY}"),
    "an exit": SystemExit(CANARY),
    "a cancellation, which is no Exception": asyncio.CancelledError(CANARY),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_a_foreign_exception_becomes_a_sentence_without_its_text(what):
    """A library's exception may hold a signed URL: the error names the provider and the exception's type only."""
    with pytest.raises(BadAnswerError) as caught:
        fetch(FOREIGN[what])
    assert str(caught.value).startswith("credentials.uploader: provider given failed with ")
    assert type(FOREIGN[what]).__name__ in str(caught.value)
    assert CANARY not in f"{caught.value!r} {caught.value}"
    assert caught.value.__cause__ is None and caught.value.__context__ is None


def test_an_interruption_by_the_operator_passes():
    """Ctrl-C ends keyturn also where it reaches Python in the middle of a provider."""
    with pytest.raises(KeyboardInterrupt):
        fetch(KeyboardInterrupt())


def test_our_own_errors_pass_through():
    """A provider that says how it failed is believed: leaf, sentence, remedy and code reach the operator unchanged."""
    error = SourceUnavailableError("the vault is sealed", "unseal it", code="Sealed")
    with pytest.raises(SourceUnavailableError) as caught:
        fetch(error)
    assert caught.value is error
    assert (error.problem, error.remedy, error.code) == ("the vault is sealed", "unseal it", "Sealed")


class SilentError(SourceUnavailableError):
    """A leaf of a third party's own whose constructor does not call the one above it."""

    def __init__(self, host):
        self.host = host


UNTIDY = {
    "control characters": SourceRefusedError("red \x1b[31m\r\nline", "two\nlines", code="\x07"),
    "no end": SourceUnavailableError("x" * 100_000, "y" * 100_000),
    "bytes": BadAnswerError(b"bytes", None),
    "silence": SilentError("vault"),
}


@pytest.mark.parametrize("what", UNTIDY)
def test_an_errors_text_is_one_bounded_printable_line(what):
    """Whatever a provider says arrives as one line of its own leaf, never empty, that cannot garble a terminal or a log."""
    with pytest.raises(type(UNTIDY[what])) as caught:
        fetch(UNTIDY[what])
    text = str(caught.value)
    assert text.isprintable() and text.strip() and caught.value.code.isprintable()
    assert len(text) <= 2 * MAX_TEXT_CHARS + 2


@pytest.mark.parametrize("error", FOREIGN.values(), ids=FOREIGN)
def test_a_constructor_that_raises_makes_the_config_unusable(error):
    """Exit code 78 and one sentence that names credential and provider; the text of the exception is not in it."""

    class Broken(Given):
        def __init__(self, settings, context):
            raise error

    with pytest.raises(ConfigError) as caught:
        Broken.made(None, ProviderContext("uploader"))
    assert caught.value.problems[0].startswith("credentials.uploader: provider given cannot be made (")
    assert caught.value.exit_code == EXIT_CONFIG
    assert CANARY not in str(caught.value)


def test_a_constructor_that_forgets_its_parent_is_named():
    """Without the context no error could name the credential, so it is said at the start, not at the first fetch."""

    class Forgetful(Given):
        def __init__(self, settings, context):
            pass

    with pytest.raises(ConfigError, match=r"credentials\.uploader: provider given does not call Provider\.__init__"):
        Forgetful.made(None, ProviderContext("uploader"))


@pytest.mark.parametrize(
    ("answer", "pace_s"), [(7, 7.0), (float("nan"), 1.0), (-5.0, 1.0), (1e9, 86_400.0), ("soon", POLL_INTERVAL_S)]
)
def test_a_pace_is_neither_busy_nor_never(answer, pace_s):
    """`poll_interval_s` of a third party is held between a second and a day; nonsense is the usual minute."""

    class Paced(Given):
        poll_interval_s = answer

    assert Paced(None, ProviderContext("uploader")).pace_s() == pace_s

"""Times as RFC 3339 writes them, and a session that names an expiry beyond all sense."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.cli.option_types import moment
from agent.core import policy
from agent.core.errors import UsageError
from agent.core.policy import Standing
from agent.core.timestamps import moment_of, rfc3339
from providers.kms.secret_data import credential_of
from providers.session_json import EXTERNAL
from providers.session_json import credential_of as external
from providers.sts_sessions import SessionReader

TIMES = {
    "2026-01-01T00:00:00Z": "2026-01-01T00:00:00Z",
    "2026-01-01t00:00:00z": "2026-01-01T00:00:00Z",
    "2026-01-01t08:00:00.25+08:00": "2026-01-01T00:00:00Z",
    "2026-01-01 00:00:00Z": "2026-01-01T00:00:00Z",
    "2016-12-31T23:59:60Z": "2017-01-01T00:00:00Z",
    "2016-12-31t23:59:60.5z": "2017-01-01T00:00:00Z",
    "2017-01-01T07:59:60+08:00": "2017-01-01T00:00:00Z",
    "2016-12-31T15:59:60-08:00": "2017-01-01T00:00:00Z",
}


@pytest.mark.parametrize("text", TIMES)
def test_every_spelling_of_rfc_3339_is_read_everywhere(text: str) -> None:
    """By every reader of a time: STS, a secret's JSON, an external program, and the command line."""
    found = moment_of(text)
    assert found is not None and rfc3339(found) == TIMES[text]
    session = {"AccessKeyId": "a", "AccessKeySecret": "b", "SecurityToken": "c", "Expiration": text}
    assert SessionReader("AssumeRole", "sts").read_role_session({"Credentials": session}).expiration == found
    reply = {"SecretData": f'{{"i":"a","s":"b","t":"c","e":"{text}"}}', "VersionId": "v"}
    fields = {"access_key_id": "i", "access_key_secret": "s", "security_token": "t", "expiration": "e"}
    assert credential_of(reply, "secret", fields).expiration == found
    answer = {"mode": "StsToken", "access_key_id": "a", "access_key_secret": "b", "sts_token": "c", "expiration": text}
    assert external(answer, EXTERNAL, "the program").expiration == found
    assert moment(text, "--since", datetime.now(UTC)) == found


@pytest.mark.parametrize(
    "text", ["", "now", "2026-01-01T00:00:00", "2026-01-01T12:00:60Z", "2026-01-01T00:00:61Z", "2026-13-01T00:00:00Z"]
)
def test_what_is_no_time_with_a_zone_is_none(text: str) -> None:
    """A leap second is the last of a day in UTC."""
    assert moment_of(text) is None


@pytest.mark.parametrize("text", ["2026-01-02", "2026-01-02T00:00", "2026-01-02 00:00:00"])
def test_the_command_line_takes_utc_where_no_zone_is_named(text: str) -> None:
    """A date too; anything else is a wrong usage."""
    assert moment(text, "--since", datetime.now(UTC)) == datetime(2026, 1, 2, tzinfo=UTC)
    with pytest.raises(UsageError):
        moment(f"{text}x", "--since", datetime.now(UTC))


@given(st.floats(0, 1, exclude_max=True), st.floats(900, 400 * 366 * 86400), st.floats(0, 1))
def test_a_session_is_asked_again_within_a_day(chance: float, life_s: float, lived: float) -> None:
    """Whatever expiry it names, after a refresh and after a start."""
    obtained = datetime(2026, 1, 1, tzinfo=UTC)
    standing = Standing(True, obtained, obtained + timedelta(seconds=life_s))
    now = obtained + timedelta(seconds=life_s * lived)
    assert policy.next_refresh(standing, now, chance) <= 86400
    assert policy.first_refresh(standing, now, chance) <= 86400
    if life_s <= 86400:
        assert policy.next_refresh(standing, obtained, chance) >= life_s * 0.6

"""A secret that is written into the config by mistake does not travel further by its error."""

from __future__ import annotations

import pytest

from tests.support.misplaced import CANARY, LONG, LONG_CANARY, SHORT
from tests.support.settings import GOOD, PROVIDER, SINK, problems


@pytest.mark.parametrize("line", SHORT.values(), ids=SHORT)
def test_what_stands_under_a_key_for_secrets_is_not_repeated(line: str) -> None:
    """However short it is."""
    found = problems(PROVIDER + line + "\n" + SINK)
    assert found and not any(CANARY in each for each in found)


@pytest.mark.parametrize("text", LONG.values(), ids=LONG)
def test_what_is_as_long_as_a_secret_is_not_repeated(text: str) -> None:
    """Under whichever key it stands."""
    found = problems(text)
    assert found and not any(LONG_CANARY in each for each in found)


def test_a_secret_in_the_environment_is_not_repeated() -> None:
    """A variable that holds no path may hold a secret."""
    found = problems(PROVIDER + 'properties_file = "${KEY}"\n' + SINK, environ={"KEY": CANARY})
    assert found and CANARY not in found[0]


def test_the_way_out_is_named() -> None:
    """Whoever writes a secret learns which keys name its file or variable."""
    assert problems(PROVIDER + 'client_key_password = "x"\n' + SINK) == [
        "credentials.a.provider.client_key_password: a secret is never written in the config; use"
        ' "client_key_password_from_file_path" or "client_key_password_from_env_variable"'
    ]


def test_a_place_without_such_keys_says_what_to_do() -> None:
    """Also where no key of this table takes a secret."""
    assert problems(GOOD + 'password = "x"\n') == [
        "credentials.a.sinks[0].password: a secret is never written in the config;"
        " put it into a file that only keyturn can read, and name that file"
    ]

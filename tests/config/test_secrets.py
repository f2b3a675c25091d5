"""A secret that is written into the config by mistake does not travel further by its error."""

from __future__ import annotations

import pytest

from tests.support.settings import GOOD, PROVIDER, SINK, problems

CANARY = "c4n4ry"  # short, so that only the key's look protects it
LONG_CANARY = "N8WtqZ4mPv7sXk2bRc9dYf1gHj5lTu"  # as long as an AccessKey secret

SHORT = {
    "the secret itself": f'access_key_secret = "{CANARY}"',
    "a password": f'client_key_password = "{CANARY}"',
    "a misspelt password": f'client_key_pasword_secret = "{CANARY}"',
    "a table under a key for secrets": f'token = {{ value = "{CANARY}" }}',
    "a secret in the place of its file": f'client_key_password_from_file_path = "{CANARY}"',
    "a secret in the place of a field": f'fields = {{ access_key_secret = ["{CANARY}"] }}',
}


@pytest.mark.parametrize("line", SHORT.values(), ids=SHORT)
def test_what_stands_under_a_key_for_secrets_is_not_repeated(line: str) -> None:
    """However short it is."""
    found = problems(PROVIDER + line + "\n" + SINK)
    assert found and not any(CANARY in each for each in found)


LONG = {
    "as a mode": f'{GOOD}mode = "{LONG_CANARY}"\n',
    "as a path": f'{PROVIDER}properties_file = "{LONG_CANARY}"\n{SINK}',
    "as a duration": f'{PROVIDER}poll_interval = "{LONG_CANARY}"\n{SINK}',
    "as an authority": f'{GOOD}[credentials.a.emergency]\nauthority = "{LONG_CANARY}"\n',
    "as an endpoint": f'{GOOD}[cloud]\nsts_endpoint = "https://{LONG_CANARY}"\n',
    "as a number": f'{GOOD}[[credentials.a.notify]]\ntype = "http"\nurl = "x"\norder = "{LONG_CANARY}"\n',
    "as broken TOML": f"{PROVIDER}poll_interval = {LONG_CANARY}\n",
    "as an unfinished string": f'{PROVIDER}poll_interval = "{LONG_CANARY}\n',
}


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

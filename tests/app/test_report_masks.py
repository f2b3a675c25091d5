"""What a line of a journal, a log or an audit record loses before it stands in a bug report."""

from __future__ import annotations

import pytest

from agent.app.report_masks import Masks

CANARY = "c4n4ry"
"""Too short to be known by its shape."""


@pytest.mark.parametrize(
    "line",
    [
        f"curl --password {CANARY} https://host/",
        f"curl --api-key '{CANARY}' x",
        f"curl -u admin:{CANARY} https://host/",
        f'{{"message": "{{\\"password\\": \\"{CANARY}\\"}}"}}',
        f"password=abc,{CANARY}",
        f"password => '{CANARY}'",
        f'password="a\\"{CANARY}"',
        f"password%3D{CANARY}",
        f"redis://user:p@ss/{CANARY}@host:6379/0",
        f"pass={CANARY}",
        f"sk={CANARY}",
        f"auth: {CANARY}",
        f"api key: {CANARY}",
        f"secret access key: {CANARY}",
        f"Authorization: Digest {CANARY}",
        f"Authorization: APPCODE {CANARY}",
        f"Cookie: sid={CANARY}",
        f"密码\uff1a{CANARY}",
    ],
)
def test_what_says_that_it_is_a_secret_is_hidden(line: str) -> None:
    assert CANARY not in Masks().hide(line)


@pytest.mark.parametrize(
    "line",
    [
        "credentials.x.provider.access_key_secret_from_file_path: it is there",
        '{"task": 5, "risk": "low", "path": "/run/keyturn/x"}',
        "https://host/docs, and mail to a@b.example",
        "keyturn check --offline: user uploader, mode 0640",
    ],
)
def test_what_helps_stays(line: str) -> None:
    assert Masks().hide(line) == line


def test_what_stands_behind_a_secret_stays() -> None:
    assert '"state": "fresh"' in Masks().hide(f'{{"token": "{CANARY}", "state": "fresh"}}')
    assert Masks().hide(f"token={CANARY} generation=5").endswith(" generation=5")

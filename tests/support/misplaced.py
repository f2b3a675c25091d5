"""Secrets that stand in a config by mistake, under keys that ask for them and in the place of something else."""

from __future__ import annotations

from tests.support.settings import GOOD, PROVIDER, SINK

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

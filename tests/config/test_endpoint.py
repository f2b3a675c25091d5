"""`[agent.endpoint]` and the sinks that send their readers there, with the types of the product."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.app import wiring
from agent.core.errors import ConfigError

ENDPOINT = '[agent.endpoint]\nlisten = "127.0.0.1:8911"\n'
CREDENTIAL = """\
[credentials.app.provider]
type = "process"
command = ["/usr/bin/true"]
[[credentials.app.sinks]]
type = "credentials_uri"
path = "/run/app/uri.env"
"""


def problems(directory: Path, text: str) -> tuple[str, ...]:
    """What is wrong with a config, without the file's name."""
    path = directory / "keyturn.toml"
    path.write_text(text)
    try:
        wiring.load_settings(str(path), {})
    except ConfigError as error:
        return tuple(one.partition(": ")[2] for one in error.problems)
    return ()


@pytest.mark.parametrize("listen", ["127.0.0.1:8911", "127.255.255.254:1", "[::1]:65535"])
def test_a_loopback_address_is_taken(tmp_path: Path, listen: str) -> None:
    """Any of them."""
    assert problems(tmp_path, ENDPOINT.replace("127.0.0.1:8911", listen) + CREDENTIAL) == ()


@pytest.mark.parametrize("listen", ["127.0.0.256:1", "128.0.0.1:1", "[::]:1", "[::ffff:127.0.0.1]:1", "127.1:1"])
def test_no_other_is(tmp_path: Path, listen: str) -> None:
    """Nor what only looks like one."""
    (problem,) = problems(tmp_path, ENDPOINT.replace("127.0.0.1:8911", listen) + CREDENTIAL)
    assert problem.startswith("agent.endpoint.listen: ")


def test_a_uri_without_an_endpoint_is_a_mistake(tmp_path: Path) -> None:
    """It would send its readers nowhere; an endpoint that is wrong itself is said once."""
    (problem,) = problems(tmp_path, CREDENTIAL)
    assert problem.startswith("credentials.app.sinks[0]: ")
    assert len(problems(tmp_path, ENDPOINT.replace("127", "10") + CREDENTIAL)) == 1


def test_the_file_may_be_shared_but_not_the_variables(tmp_path: Path) -> None:
    """With an env_file sink of the same credential; with another URI it cannot."""
    env = CREDENTIAL.partition("[[")[2].replace("credentials_uri", "env_file")
    assert problems(tmp_path, ENDPOINT + CREDENTIAL + "[[" + env) == ()
    second = "[[" + CREDENTIAL.partition("[[")[2]
    assert any("ALIBABA_CLOUD_CREDENTIALS_URI" in one for one in problems(tmp_path, ENDPOINT + CREDENTIAL + second))


def test_it_is_no_file_of_a_directory(tmp_path: Path) -> None:
    """Where each generation is written anew, and the token would be lost."""
    text = (
        CREDENTIAL.replace('"credentials_uri"', '"directory"') + 'files = [{ type = "credentials_uri", name = "x" }]\n'
    )
    assert any(
        one.startswith("credentials.app.sinks[0].files[0].type: ") for one in problems(tmp_path, ENDPOINT + text)
    )

"""The sinks as an operator writes them: loaded through the real registry, and handed what they may know."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from agent.app.wiring import SINKS, Factory, load_settings
from agent.core.errors import ConfigError
from agent.core.settings import Settings
from tests.support.broken_configs import BROKEN_SINKS, with_sinks

SINKS_MD = Path(__file__).parents[2] / "docs" / "sinks.md"
ENVIRONMENT = {"A": "LTAI5tKey000001", "B": "secretOf000001"}
ALL = """
type = "credentials_ini"
path = "/x/credentials.ini"
#
type = "ini"
path = "/x/.ossutilconfig"
keys = "ossutil"
#
type = "ini"
path = "/x/credentials.ini"
section = "other"
keys = { id = "access_key_id" }
#
type = "env_file"
path = "/x/app.env"
#
type = "aliyun_cli"
path = "/x/config.json"
#
type = "json"
path = "/x/credential.json"
#
type = "template"
path = "/x/app.conf"
source = "/y/app.j2"
"""


def load(directory: Path, sinks: str) -> Settings:
    """Load a config with sinks that are separated by `#` lines."""
    return load_settings(str(with_sinks(directory, sinks)), ENVIRONMENT)


def test_every_type_can_be_configured(tmp_path: Path) -> None:
    """The types of the contract are those that the config knows, each with its own keys."""
    settings = load(tmp_path, ALL)
    assert {sink.type for sink in settings.credentials["uploader"].sinks} <= SINKS.keys()
    (managed,) = Factory(settings, ENVIRONMENT).credentials()
    assert [sink.target for sink in managed.sinks] == [
        "/x/credentials.ini [default]",
        "/x/.ossutilconfig [Credentials]",
        "/x/credentials.ini [other]",
        "/x/app.env",
        "/x/config.json [default]",
        "/x/credential.json",
        "/x/app.conf",
    ]
    assert {sink.context.credential for sink in managed.sinks} == {"uploader"}
    assert {sink.context.region_id for sink in managed.sinks} == {"ap-southeast-5"}


@pytest.mark.parametrize(("sinks", "place"), BROKEN_SINKS.values(), ids=BROKEN_SINKS)
def test_what_cannot_be_is_said_with_its_place(tmp_path: Path, sinks: str, place: str) -> None:
    """Before anything runs, one problem by its key; tests/golden has the sentence."""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, sinks)
    (problem,) = caught.value.problems
    assert problem.startswith(f"{tmp_path}/keyturn.toml: credentials.uploader.{place}: ")


def test_the_samples_of_the_documentation_load(tmp_path: Path) -> None:
    """docs/sinks.md cannot lie: its tables are a config."""
    text = SINKS_MD.read_text()
    samples = re.findall(r"```toml\n\[\[credentials\.uploader\.sinks\]\]\n(.*?)```", text, re.DOTALL)
    java = re.search(r'`(section = "default")`, `(keys = \{ oss_access.*? \})`', text)
    assert java and len(samples) == 2
    table = f'type = "ini"\npath = "/home/app/.oss/credentials"\n{java[1]}\n{java[2]}\n'
    assert len(load(tmp_path, "#\n".join([*samples, table])).credentials["uploader"].sinks) == 3

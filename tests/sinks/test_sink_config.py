"""The sinks as an operator writes them: loaded through the real registry, and handed what they may know."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from agent.app.wiring import SINKS, Factory, load_settings
from agent.core.errors import ConfigError
from agent.core.settings import Settings
from tests.support.golden import Golden

SINKS_MD = Path(__file__).parents[2] / "docs" / "sinks.md"
HEAD = """
[cloud]
region_id = "ap-southeast-5"
[credentials.uploader.provider]
type = "access_key"
access_key_id_from_env_variable = "A"
access_key_secret_from_env_variable = "B"
"""
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
    path = directory / "keyturn.toml"
    tables = "".join(f"[[credentials.uploader.sinks]]\n{sink}\n" for sink in re.split(r"(?m)^#$", sinks))
    path.write_text(HEAD + tables)
    path.chmod(0o600)
    return load_settings(str(path), ENVIRONMENT)


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


BROKEN_SINKS = {
    "a preset of ini that does not exist": ('type = "ini"\npath = "/x"\nkeys = "ossutl"', "sinks[0].keys"),
    "a field that does not exist": (
        'type = "ini"\npath = "/x"\nkeys = { a = "secret" }\nsection = "a"',
        "sinks[0].keys.a",
    ),
    "a preset without its section": ('type = "ini"\npath = "/x"\nkeys = "oss_config"', "sinks[0].section"),
    "ini without keys": ('type = "ini"\npath = "/x"', "sinks[0].keys"),
    "a template without a source": ('type = "template"\npath = "/x"', "sinks[0].source"),
    "a relative source": ('type = "template"\npath = "/x"\nsource = "x.j2"', "sinks[0].source"),
    "a template over its own source": ('type = "template"\npath = "/x"\nsource = "/x"', "sinks[0].source"),
    "a key of another name": ('type = "aliyun_cli"\npath = "/x"\nregion = "a"', "sinks[0].region"),
    "a file for everyone": ('type = "aliyun_cli"\npath = "/x"\nmode = "0644"', "sinks[0].mode"),
    "one profile twice": (
        'type = "aliyun_cli"\npath = "/x"\n#\ntype = "aliyun_cli"\npath = "/x"',
        "sinks[1].path",
    ),
    "one key of one section twice": (
        'type = "ini"\npath = "/x"\nkeys = "ossutil"\n#\ntype = "ini"\npath = "/x"\nsection = "Credentials"\n'
        'keys = { STSTOKEN = "security_token" }',
        "sinks[1].path",
    ),
    "a key of a section that another sink owns": (
        'type = "credentials_ini"\npath = "/x"\n#\ntype = "ini"\npath = "/x"\nsection = "default"\n'
        'keys = { TYPE = "access_key_id" }',
        "sinks[1].path",
    ),
    "lines of a file that a template owns": (
        'type = "template"\npath = "/x"\nsource = "/y"\n#\ntype = "env_file"\npath = "/x"',
        "sinks[1].path",
    ),
}


@pytest.mark.parametrize(("sinks", "place"), BROKEN_SINKS.values(), ids=BROKEN_SINKS)
def test_what_cannot_be_is_said_with_its_place(tmp_path: Path, sinks: str, place: str) -> None:
    """Before anything runs, one problem by its key; tests/golden/messages.txt has the sentence."""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, sinks)
    (mistake,) = caught.value.mistakes
    assert (mistake.file, mistake.place) == (f"{tmp_path}/keyturn.toml", f"credentials.uploader.{place}")
    assert mistake.line


def test_the_sentences_are_those_that_were_approved(tmp_path: Path, golden: Golden) -> None:
    """The rules that the built-in sinks have of their own."""
    said = {}
    for name, (sinks, _place) in BROKEN_SINKS.items():
        with pytest.raises(ConfigError) as caught:
            load(tmp_path, sinks)
        said[name] = str(caught.value).replace(str(tmp_path), "/etc/keyturn")
    golden("sinks", said)


def test_the_samples_of_the_documentation_load(tmp_path: Path) -> None:
    """docs/sinks.md cannot lie: its tables are a config."""
    text = SINKS_MD.read_text()
    samples = re.findall(r"```toml\n\[\[credentials\.uploader\.sinks\]\]\n(.*?)```", text, re.DOTALL)
    java = re.search(r'`(section = "default")`, `(keys = \{ oss_access.*? \})`', text)
    assert java and len(samples) == 2
    table = f'type = "ini"\npath = "/home/app/.oss/credentials"\n{java[1]}\n{java[2]}\n'
    assert len(load(tmp_path, "#\n".join([*samples, table])).credentials["uploader"].sinks) == 3

"""`type = "directory"`: tables in a table, judged by the rules of each file's own type."""

from __future__ import annotations

import pytest

from agent.app import wiring
from agent.config.load import parse
from agent.core.errors import ConfigError
from agent.sinks.formats.directory import DirectorySink
from agent.sinks.formats.env_file import EnvFile, EnvFileSettings

HEAD = """
[credentials.x]
provider = { type = "access_key", access_key_id_from_file_path = "/id", access_key_secret_from_file_path = "/secret" }
[[credentials.x.sinks]]
type = "directory"
path = "/run/app/credentials"
"""


class Nobody:
    """No account is asked for."""

    def uid_of(self, name: str) -> int | None:
        return None

    gid_of = uid_of

    def names(self, kind: str) -> list[str]:
        return []


def load(text: str) -> DirectorySink:
    settings = parse((HEAD + text).encode(), "k.toml", wiring.registry(), environ={}, users=Nobody())
    (managed,) = wiring.Factory(settings, {}).credentials()
    sink = managed.sinks[0]
    assert isinstance(sink, DirectorySink)
    return sink


def test_a_directory_loads_with_files_of_every_type() -> None:
    """Each file is a sink of its type with its own keys, and the owner and mode of the directory."""
    sink = load(
        'mode = "0640"\nfiles = [{ type = "env_file", name = "a.env", dialect = "shell" },'
        ' { type = "credentials_ini", name = "c.ini", profile = "p" }, { type = "json", name = "j.json" },'
        ' { type = "aliyun_cli", name = "config.json" }, { type = "template", name = "t", source = "/t.j2" }]'
    )
    assert sink.formats == ("env_file", "credentials_ini", "json", "aliyun_cli", "template")
    name, first = sink.files[0]
    assert isinstance(first, EnvFile) and name == "a.env"
    assert first.settings == EnvFileSettings(
        type="env_file", path="/run/app/credentials/a.env", mode=0o640, dialect="shell"
    )
    assert first.context.credential == "x" and sink.settings.keep == 2


PROBLEMS = {
    'files = [{ type = "env_file", name = "a", dialect = "shel" }]': 'files[0].dialect: want "systemd"',
    'files = [{ type = "env_file", name = "a", mode = "0600" }]': "files[0].mode: unknown key; it belongs into",
    'files = [{ type = "env_file", path = "/a" }]': "files[0].path: unknown key",
    'files = [{ type = "json" }]': "files[0].name: required, but missing",
    'files = [{ type = "json", name = "a/b" }]': "files[0].name: want the name of a file",
    'files = [{ type = "json", name = ".." }]': "files[0].name: want the name of a file",
    'files = [{ type = "credentials_ini", name = "a", profile = "DEFAULT" }]': "files[0].profile: the section [DEFAULT]",
    'files = [{ type = "jsom", name = "a" }]': 'files[0].type: there is no file of type "jsom"; did you mean "json"?',
    'files = [{ type = "directory", name = "a" }]': 'files[0].type: there is no file of type "directory"',
    'files = [{ type = "json", name = "a" }, { type = "json", name = "a" }]': "files[1].name: another file of this",
    'files = [{ type = "json", name = "a" }, { type = "env_file", name = "a" }]': "files[1].name: another file of this",
    "files = []": "files: want 1 to 64 files",
    'keep = 0\nfiles = [{ type = "json", name = "a" }]': "keep: want 1 to 10",
    'write = "in_place"\nfiles = [{ type = "json", name = "a" }]': "write: a directory is switched by its link",
    'mode = "0644"\nfiles = [{ type = "json", name = "a" }]': "mode: lets everyone in",
}


@pytest.mark.parametrize("text", PROBLEMS)
def test_an_impossible_directory_is_named_by_place(text: str) -> None:
    """Every problem names the table and the key."""
    with pytest.raises(ConfigError) as caught:
        load(text)
    assert f"credentials.x.sinks[0].{PROBLEMS[text]}" in str(caught.value)


def test_two_parts_may_share_a_file_of_a_directory() -> None:
    """As in any file: other variables, other profiles."""
    sink = load('files = [{ type = "env_file", name = "a" }, { type = "env_file", name = "a", variables = ["oss"] }]')
    assert [name for name, _ in sink.files] == ["a", "a"]


def test_no_other_sink_may_lie_in_a_directory_sink() -> None:
    """It would be written through the link, and pruned."""
    with pytest.raises(
        ConfigError,
        match=r"sinks\[1\].path: /run/app/credentials/b.json lies below /run/app/credentials, which credentials\.x\.sinks\[0\]",
    ):
        load(
            'files = [{ type = "json", name = "a" }]\n'
            '[[credentials.x.sinks]]\ntype = "json"\npath = "/run/app/credentials/b.json"'
        )

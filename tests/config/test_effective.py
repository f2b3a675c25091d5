"""The config as it takes effect: it loads to the same settings, says which values are defaults, and holds no secret."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.app.wiring import registry
from agent.config.effective import Row, as_toml, as_tree, effective, rows, shown_duration
from agent.core.settings import Settings
from agent.core.toml_text import toml
from tests.support.misplaced import CANARY, LONG_CANARY
from tests.support.settings import read

ENVIRON = {"CREDENTIALS_DIRECTORY": "/run/credentials/keyturn.service", "ODD": "/x y/${Z}/é"}
SMALL = '[credentials.a.provider]\ntype = "default"\n[[credentials.a.sinks]]\ntype = "json"\npath = "/x"\n'
EXAMPLE = (Path(__file__).parents[2] / "keyturn.example.toml").read_text()


def loaded(text: str, environ: dict[str, str] = ENVIRON) -> Settings:
    """Load a text with the types that there are."""
    return read(text, registry=registry(), environ=environ)


def shown(text: str, environ: dict[str, str] = ENVIRON) -> tuple[str, list[Row]]:
    """What is printed of a text, and its rows."""
    table = effective(loaded(text, environ), tomllib.loads(text), environ)
    return "\n".join(as_toml(table)), list(rows(table))


def round_trip(text: str) -> str:
    """Hold what is printed against the settings that it was made of."""
    loaded_first = loaded(text)
    table = effective(loaded_first, tomllib.loads(text), ENVIRON)
    written = "\n".join(as_toml(table))
    assert loaded(written) == loaded_first
    assert not [row for row in rows(table) if row.is_hidden]
    assert as_tree(table)["credentials"].keys() == loaded_first.credentials.keys()
    return written


def test_the_example_loads_to_the_same_settings_and_again_to_the_same_text() -> None:
    """All that the example has, as it is and with its commented lines in force."""
    for text in (
        EXAMPLE,
        EXAMPLE.replace("\n# [agent.endpoint]", "\n[agent.endpoint]").replace("\n# listen", "\nlisten"),
    ):
        written = round_trip(text)
        again = round_trip(written)
        strip = lambda each: [line.partition("  # ")[0] for line in each.split("\n") if not line.startswith("#")]  # noqa: E731
        assert strip(again) == strip(written)


NAME = st.sampled_from(["a", "b.c", "web-1"])
ODD_TEXT = st.sampled_from(['q"uo\\te', "tab\there", "文字", "\x7f", "😀\u200b", "a = 1 # x"])
PATHS = st.sampled_from(["/etc/x", "${CREDENTIALS_DIRECTORY}/y", "${ODD}/z", "/with blank/é", "/a//b/./c/"])
DURATIONS = st.sampled_from(["1s", "90s", "1m", "1h30m", "500ms", "2d", "36h"])
STATIC = {"access_key_id_from_file_path": PATHS, "access_key_secret_from_env_variable": st.just("THE_SECRET")}
PROVIDERS = {
    "kms_secret": (
        {"secret_name": st.sampled_from(["uploader-ak", "acs:kms:cn-hangzhou:1:secret/x"]), "properties_file": PATHS},
        {"poll_interval": DURATIONS.filter(lambda each: each != "500ms"), "version_stage": st.just("ACSPrevious")},
    ),
    "ram_role_arn": (
        {"role_arn": st.just("acs:ram::1234567890123456:role/x"), "base": st.just({"type": "ecs_ram_role"})},
        {"policy": st.just('{"Version": "1", "Statement": []}'), "external_id": st.just("a@b:c/d")},
    ),
    "ecs_ram_role": ({}, {"role_name": st.just("vm-role"), "imds_v1": st.booleans()}),
    "access_key": (STATIC, {}),
    "default": ({}, {}),
    "process": ({"command": st.just(["/usr/bin/get-key", "--for", "uploader"])}, {"timeout": st.just("10s")}),
    "credentials_uri": ({"credentials_uri": st.just("http://127.0.0.1:8080/v1/credentials/app")}, {}),
}  # fmt: skip
SINKS = {
    "credentials_ini": ({}, {"profile": st.sampled_from(["default", "web"])}),
    "env_file": (
        {},
        {
            "variables": st.sampled_from([["oss"], ["alibaba_cloud", "oss"], {"SK": "access_key_secret", "ID": "access_key_id"}]),
            "dialect": st.sampled_from(["systemd", "docker", "shell", "dotenv"]),
        },
    ),
    "json": ({}, {}),
    "ini": ({"section": st.just("x y"), "keys": st.just({"the_secret": "access_key_secret", "id": "access_key_id"})}, {}),
}  # fmt: skip
NOTIFIERS = {
    "systemd": ({"unit": st.just("app.service")}, {"action": st.sampled_from(["restart", "reload"])}),
    "exec": ({"command": st.just(["/bin/x", "a b", "-v"])}, {"timeout": DURATIONS, "user": st.just("root")}),
    "signal": ({"pid_file": st.just("/run/x.pid")}, {"signal": st.just("SIGUSR1")}),
    "http": ({"url": st.just("http://127.0.0.1:8080/reload")}, {"expect_status": st.sampled_from([204, [200, 204]])}),
}  # fmt: skip
OF_ALL_NOTIFIERS = {
    "retries": st.integers(0, 3), "retry_for": DURATIONS, "order": st.integers(-1, 1),
    "pickup": st.fixed_dictionaries({"command": st.just(["/bin/true"])}, optional={"timeout": DURATIONS}),
}  # fmt: skip


def family(types: dict[str, tuple[Any, Any]], **others: Any) -> st.SearchStrategy[dict[str, Any]]:
    """Tables of a family."""
    return st.one_of(
        [
            st.fixed_dictionaries({"type": st.just(name), **needed}, optional={**others, **more})
            for name, (needed, more) in types.items()
        ]
    )


CREDENTIAL = st.fixed_dictionaries(
    {
        "provider": family(PROVIDERS),
        "sinks": st.lists(
            family(SINKS, mode=st.sampled_from(["0600", "0640"]), owner=st.just("root")), min_size=1, max_size=3
        ),
    },
    optional={
        "notify": st.lists(family(NOTIFIERS, **OF_ALL_NOTIFIERS), max_size=2),
        "verify": st.just("off"),
        "owner": ODD_TEXT,
        "max_age": st.just("90d"),
        "serve": st.fixed_dictionaries({"users": st.just(["root"])}, optional={"hold": st.just("5s")}),
        "emergency": st.fixed_dictionaries({"authority": family({"access_key": (STATIC, {})})}),
    },
)
CONFIGS = st.fixed_dictionaries(
    {"credentials": st.dictionaries(NAME, CREDENTIAL, min_size=1, max_size=2)},
    optional={
        "agent": st.fixed_dictionaries(
            {}, optional={"settle": DURATIONS, "state_directory": PATHS, "metrics_listen": st.just("[::1]:9464")}
        ),
        "cloud": st.fixed_dictionaries({}, optional={"region_id": st.just("cn-beijing"), "ca_file": PATHS}),
        "fleet": st.just({"url": "rediss://r.example:6379/0", "announce_jitter": "1s"}),
    },
)


@settings(max_examples=25)
@given(CONFIGS)
def test_any_config_loads_to_the_same_settings(tree: dict[str, Any]) -> None:
    """Every type, with and without its keys, odd letters, variables in paths, tables in tables."""
    for number, (name, credential) in enumerate(tree["credentials"].items()):
        for place, sink in enumerate(credential["sinks"]):
            sink["path"] = f"/srv/{number}/{place}"
        assert name
    round_trip("\n".join(f"{toml(key)} = {toml(part)}" for key, part in tree.items()))


def test_each_key_is_there_and_defaults_are_marked() -> None:
    """Whoever reads it learns what there is to set, and what they did set."""
    text = f'[credentials.a]\nverify_timeout = "60s"\n{SMALL}'
    written, found = shown(text)
    lines = written.split("\n")
    assert 'verify_timeout = "60s"' in lines
    assert 'mode = "0600"  # default' in lines
    assert 'log_level = "info"  # default' in lines
    assert "# metrics_listen: not set" in lines
    assert {row.place[-1] for row in found if not row.is_default} == {"verify_timeout", "type", "path"}


def test_a_directory_of_systemds_is_named() -> None:
    """What the environment decides is no default of the program."""
    text = SMALL
    written, _rows = shown(text, {"STATE_DIRECTORY": "/var/lib/other:/x"})
    assert 'state_directory = "/var/lib/other"  # from $STATE_DIRECTORY' in written.split("\n")
    written, _rows = shown(text.replace("/x", "${CREDENTIALS_DIRECTORY}/x"))
    assert (
        f'path = "{ENVIRON["CREDENTIALS_DIRECTORY"]}/x"  # written as "${{CREDENTIALS_DIRECTORY}}/x"'
        in written.split("\n")
    )


HIDDEN = {
    "in a URL": f'type = "credentials_uri"\ncredentials_uri = "http://127.0.0.1/x?token={CANARY}"',
    "as an option": f'type = "process"\ncommand = ["/x", "--token={CANARY}"]',
    "behind an option": f'type = "process"\ncommand = ["/x", "--password", "{CANARY}"]',
    "in a header": f'type = "process"\ncommand = ["/usr/bin/curl", "-H", "Authorization: Bearer {CANARY}"]',
    "behind curl's user": f'type = "process"\ncommand = ["/usr/bin/curl", "-u", "me:{CANARY}"]',
    "as a variable": f'type = "process"\ncommand = ["/usr/bin/env", "DB_PASSWORD={CANARY}", "/x"]',
    "by its shape": f'type = "process"\ncommand = ["/x", "{LONG_CANARY}"]',
    "in the place of a name": f'type = "kms_secret"\nsecret_name = "{LONG_CANARY}"\nproperties_file = "/x"',
}


@pytest.mark.parametrize("provider", HIDDEN.values(), ids=HIDDEN)
def test_no_secret_is_shown(provider: str) -> None:
    """Also one that stands where the config takes any text; what was hidden is said."""
    text = f'[credentials.a.provider]\n{provider}\n[[credentials.a.sinks]]\ntype = "json"\npath = "/x"\n'
    written, found = shown(text)
    tree = as_tree(effective(loaded(text), tomllib.loads(text), ENVIRON))
    assert CANARY not in written and LONG_CANARY not in written
    assert CANARY not in repr(tree) and LONG_CANARY not in repr(tree)
    assert [row for row in found if row.is_hidden]
    tomllib.loads(written)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.5, "500ms"), (60, "60s"), (90, "90s"), (120, "2m"), (3600, "1h"), (86400, "1d"), (5400, "90m")],
)
def test_durations_are_written_as_people_write_them(seconds: float, text: str) -> None:
    """A default is shown as somebody would write it."""
    assert shown_duration(seconds) == text

"""What a malformed config is told: one line for each mistake, place first."""

from __future__ import annotations

import pytest

from agent.core.errors import EXIT_CONFIG, ConfigError
from tests.support.broken_configs import NOT_TOML, ONE_PROBLEM
from tests.support.settings import GOOD, problems, read


@pytest.mark.parametrize(("text", "place"), ONE_PROBLEM.values(), ids=ONE_PROBLEM)
def test_each_mistake_has_its_place(text: str, place: str) -> None:
    """One mistake makes one line, which names the place and says what to do; tests/golden has the sentence."""
    (problem,) = problems(text)
    assert problem.startswith(f"{place}: ")


@pytest.mark.parametrize("text", NOT_TOML.values(), ids=NOT_TOML)
def test_what_is_not_toml_is_one_problem_of_the_file(text: bytes) -> None:
    """Whatever the parser stumbled over; tests/golden has the sentence, with line and column."""
    with pytest.raises(ConfigError) as caught:
        read(text)
    (problem,) = caught.value.problems
    assert problem.startswith("keyturn.toml: ")


def test_an_integer_of_many_digits_is_no_traceback() -> None:
    """Python refuses to read integers past 4300 digits; that too is a problem with a sentence."""
    (line,) = problems("x = " + "9" * 5000)
    assert line.startswith("not valid TOML: ")


def test_a_relative_directory_from_systemd_is_named_by_its_variable() -> None:
    """The operator looks for the mistake where it is: in the environment."""
    assert problems(GOOD, environ={"STATE_DIRECTORY": "var/lib"}) == [
        "the environment variable STATE_DIRECTORY holds no absolute path; unset it or name a directory"
    ]


def test_all_problems_are_reported_at_once() -> None:
    """Mistakes in every corner of a file come in one go, also those between tables of which one is broken."""
    text = """
[agent]
settle = 2
metrics_listen = "x"
[cloud]
regoin_id = "cn-hangzhou"
[credentials.a]
verify = "on"
[credentials.a.provider]
type = "kms_secret"
[[credentials.a.sinks]]
type = "json"
path = "/etc/x"
owner = "nobody-here"
mode = "0666"
[[credentials.a.sinks]]
type = "json"
path = "etc/y"
owner = "nobody-here"
mode = "0666"
[[credentials.b.sinks]]
type = "json"
path = "/etc/x"
[credentials.b.emergency]
authority = "nowhere"
"""
    assert {line.partition(": ")[0] for line in problems(text)} == {
        "agent.settle",
        "agent.metrics_listen",
        "cloud.regoin_id",
        "credentials.a.verify",
        "credentials.a.provider.secret_name",
        "credentials.a.sinks[0].owner",
        "credentials.a.sinks[0].mode",
        "credentials.a.sinks[1].path",
        "credentials.a.sinks[1].owner",
        "credentials.a.sinks[1].mode",
        "credentials.b.provider",
        "credentials.b.sinks[0].path",
        "credentials.b.sinks[0].mode",
        "credentials.b.sinks[0].owner",
        "credentials.b.emergency.authority",
    }


def test_an_invalid_config_exits_with_78() -> None:
    """Supervisors tell a bad config from a bad day by the exit code."""
    with pytest.raises(ConfigError) as caught:
        read(b"")
    assert caught.value.exit_code == EXIT_CONFIG

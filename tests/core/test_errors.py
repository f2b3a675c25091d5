"""What stays of an error that is passed on with its place or a further clause."""

from __future__ import annotations

import pytest

from agent.control.client import RemoteError
from agent.core.errors import (
    EXIT_CONFIG,
    BadAnswerError,
    ConfigError,
    KeyturnError,
    NotPermittedError,
    SourceRefusedError,
    SourceUnavailableError,
    UsageError,
    of_all,
)
from agent.notifiers.interface import HookFailedError


def test_place_goes_before_the_problem_and_all_else_stays() -> None:
    """Class, remedy, code and exit code are those of the error that is passed on."""
    told = NotPermittedError("KMS says no", "grant it", code="Forbidden.NoPermission").at("credentials.db")
    assert type(told) is NotPermittedError
    assert (told.problem, told.remedy) == ("credentials.db: KMS says no", "grant it")
    assert (told.code, told.exit_code, told.retryable) == ("Forbidden.NoPermission", 77, False)
    assert told.place == "credentials.db"
    assert str(told) == "credentials.db: KMS says no; grant it"


def test_clause_goes_between_problem_and_remedy() -> None:
    """What a caller knows besides is said before what to do about it."""
    told = SourceUnavailableError("KMS is down", "try again").because("nothing was rotated")
    assert str(told) == "KMS is down; nothing was rotated; try again"
    assert told.retryable


def test_a_caller_who_knows_better_gives_another_remedy() -> None:
    """The remedy is replaced only where one is given."""
    told = SourceRefusedError("no", "ask them", code="X").because("nothing was rotated", "wait")
    assert (told.problem, told.remedy, told.code) == ("no; nothing was rotated", "wait", "X")
    assert told.args == ("no; nothing was rotated", "wait")


def test_the_error_itself_is_left_as_it_is() -> None:
    """Somebody else may hold it: the log, a state record."""
    error = UsageError("problem", "remedy")
    error.at("place").because("clause")
    assert (error.problem, error.place, error.args) == ("problem", "", ("problem", "remedy"))


def test_places_nest_and_the_last_one_can_be_taken_off() -> None:
    """A fetch puts its own place where a base has put one."""
    error = BadAnswerError("not a time").at("expiration").at("credentials.db")
    assert error.problem == "credentials.db: expiration: not a time"
    assert error.without_place().problem == "expiration: not a time"
    assert error.without_place().without_place().problem == "expiration: not a time"


def test_what_an_error_was_made_to_be_is_kept() -> None:
    """`retryable` set on one error, as for a third party's, is not lost on the way."""
    error = KeyturnError("a third party's", "wait")
    error.retryable = True
    assert error.at("credentials.db").because("clause").retryable


def test_config_error_puts_the_place_before_each_problem() -> None:
    """Each of its problems is a sentence of its own."""
    told = ConfigError(["a.b: is wrong", "c: is wrong too"]).at("keyturn.toml")
    assert told.problems == ("keyturn.toml: a.b: is wrong", "keyturn.toml: c: is wrong too")
    assert str(told) == "keyturn.toml: a.b: is wrong\nkeyturn.toml: c: is wrong too"
    assert told.exit_code == EXIT_CONFIG
    assert told.because("nothing was changed").problems[0] == "keyturn.toml: a.b: is wrong; nothing was changed"
    assert told.without_place().problems == ("a.b: is wrong", "c: is wrong too")


def test_errors_with_other_arguments_keep_what_they_carry() -> None:
    """The exit code of the daemon's error, and the output of a hook."""
    remote = RemoteError("the daemon says no", 75).at("daemon")
    assert (remote.exit_code, str(remote)) == (75, "daemon: the daemon says no")
    hook = HookFailedError("unit.service: failed", "look at it", output="said").because("it is told again")
    assert (hook.output, hook.remedy, hook.retryable) == ("said", "look at it", True)


@pytest.mark.parametrize("first", ["refused", "down"])
def test_several_failures_are_one_error_of_the_kind_that_is_worth_another_try(first: str) -> None:
    """A try that may go better next time decides over one that may not, whichever came first."""
    refused = SourceRefusedError("a says no", "ask a", code="No")
    down = SourceUnavailableError("b is down", "wait for b", code="Down")
    told = of_all("nobody answered", [refused, down] if first == "refused" else [down, refused])
    assert type(told) is SourceUnavailableError
    assert (told.remedy, told.code) == ("wait for b", "Down")
    said = "a says no; b is down" if first == "refused" else "b is down; a says no"
    assert told.problem == f"nobody answered: {said}"

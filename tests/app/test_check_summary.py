"""What all findings of a check come to: one line for one cause, and the one that others depend on is named first."""

from __future__ import annotations

import itertools

import pytest

from agent.app.check_summary import summary
from agent.app.wiring import registry
from agent.core.finding import Finding
from agent.core.settings import Settings
from tests.support.settings import read

SINK = '[[credentials.{0}.sinks]]\ntype = "json"\npath = "/x/{0}"\n'
BASE = """
[credentials.{}.provider]
type = "access_key"
access_key_id_from_file_path = "/i"
access_key_secret_from_file_path = "/s"
"""
ROLE = '[credentials.{}.provider]\ntype = "ram_role_arn"\nrole_arn = "acs:ram::1234567890123456:role/x"\nbase = "{}"\n'


def config() -> Settings:
    """`top` is made of `middle`, which is made of `base`; `lone` and `base` rotate by `operator`."""
    made = (
        ROLE.format("top", "middle")
        + ROLE.format("middle", "base")
        + BASE.format("base")
        + BASE.format("lone")
        + BASE.format("operator")
    )
    sinks = "".join(map(SINK.format, ("top", "middle", "base", "lone")))
    emergency = '[credentials.lone.emergency]\nauthority = "operator"\n'
    return read(made + sinks + emergency, registry=registry())


SETTINGS = config()


def error(place: str, text: str = "", remedy: str = "mend it") -> Finding:
    """An error with a text of its own, unless it is given one."""
    return Finding("error", place, text or f"what is wrong at {place}", remedy)


FIRST = {
    "the base of others before a lone one": [
        "credentials.lone.provider",
        "credentials.base.provider",
        "credentials.top.provider",
    ],
    "the authority of another": [
        "credentials.top.provider",
        "credentials.operator.provider",
        "credentials.lone.emergency",
    ],
    "a provider before its sinks": ["credentials.base.sinks[0]", "credentials.base.provider"],
    "a provider of files before sinks of others": [
        "credentials.lone.sinks[0]",
        "credentials.lone.notify[0]",
        "credentials.top.provider.x",
    ],
    "a directory of keyturn's own": ["credentials.base.provider", "agent.state_directory"],
    "the set-up before anything": ["agent.state_directory", "systemd", "credentials.base.provider"],
    "a sink before a dependent": ["credentials.base.notify[0]", "credentials.lone.sinks[1].mode"],
    "whatever there is": ["daemon"],
}
WANTED = ["credentials.base.provider", "credentials.operator.provider", "credentials.base.provider", "credentials.top.provider.x",
          "agent.state_directory", "systemd", "credentials.lone.sinks[1].mode", "daemon"]  # fmt: skip


@pytest.mark.parametrize(("places", "wanted"), list(zip(FIRST.values(), WANTED, strict=True)), ids=FIRST)
def test_what_others_depend_on_comes_first(places: list[str], wanted: str) -> None:
    """In whichever order it was found."""
    for order in itertools.permutations(places):
        whole = summary(map(error, order), SETTINGS)
        assert whole.first is not None and whole.first.finding.place == wanted
        assert whole.remedy() == f"do first: mend it ({wanted})"


def test_one_cause_is_one_line_with_all_its_places() -> None:
    """The same file, endpoint or directory, found by several credentials, is mended once."""
    found = [
        error(f"credentials.{name}.provider", f"credentials.{name}: 192.0.2.1: refused, request {name}aaaaaaaa")
        for name in "abc"
    ]
    found += [
        error("credentials.d.provider", "192.0.2.1: refused", "another remedy"),
        error("credentials.a.provider", found[0].text),
    ]
    whole = summary(found, SETTINGS)
    assert [(cause.finding.place, cause.also) for cause in whole.causes] == [
        ("credentials.a.provider", ("credentials.b.provider", "credentials.c.provider")),
        ("credentials.d.provider", ()),
    ]
    assert whole.counts() == "2 errors, no warnings"


def test_what_the_daemon_says_of_the_same_cause_is_its_echo() -> None:
    """The daemon's last error is the one that the check has just met."""
    text = "credentials.base: kms.example.com: connection refused"
    echo = Finding(
        "error", "daemon", f"credentials.base is failing: failed 7 times: {text}; check the route", "see status"
    )
    other = Finding("error", "daemon", "credentials.lone is stale", "see status")
    whole = summary([echo, other, error("credentials.base.provider", text)], SETTINGS)
    assert [(cause.finding.place, cause.also) for cause in whole.causes] == [
        ("credentials.base.provider", ("daemon",)),
        ("daemon", ()),
    ]


def test_a_warning_is_not_an_error_and_errors_come_last() -> None:
    """The end of the terminal is what is read."""
    same = "both say this, word for word"
    found = [error("a", same), Finding("warning", "b", same, "mend it"), Finding("ok", "c", "fine")]
    whole = summary(found, SETTINGS)
    assert [cause.finding.level for cause in whole.causes] == ["warning", "error"]
    assert (whole.counts(), whole.in_order) == ("1 error, 1 warning", 1)


@pytest.mark.parametrize(
    ("levels", "wanted"),
    [
        (["ok", "ok"], "all is well: 2 looks, no errors, no warnings"),
        (["ok", "warning"], "no errors, 1 warning"),
        (["error", "ok", "warning", "warning"], "1 error, 2 warnings"),
    ],
)
def test_the_counts_are_said(levels: list[str], wanted: str) -> None:
    """Also that nothing is wrong; then nothing is to be done first."""
    found = [Finding(level, f"p{number}", f"t{number}") for number, level in enumerate(levels)]
    whole = summary(found, SETTINGS)
    assert whole.counts() == wanted
    assert bool(whole.remedy()) is ("error" in levels)

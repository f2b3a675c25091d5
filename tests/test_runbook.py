"""The runbook has a page for each alert and each failure, and its commands can be pasted."""

from __future__ import annotations

import re
import shlex
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from agent.canary.look import Verdict
from agent.cli.command_line import parser
from agent.core import errors
from agent.core.alarms import Kind
from agent.core.events import Event
from agent.core.policy import Condition
from agent.notifiers.interface import Pickup
from tests.support.station import Station
from tests.support.vm import Vm

ROOT = Path(__file__).parent.parent
RUNBOOK = (ROOT / "docs/runbook.md").read_text()
RULES = (ROOT / "docs/monitoring/keyturn.rules.yml").read_text()
BASE = "https://github.com/keyturn/keyturn/blob/main/docs/runbook.md#"
UPLOADER = ("--credential", "uploader")
READS = {("status",), ("check",), ("refresh",), ("plan",), ("audit", "show"), ("audit", "verify")}
"""The commands that are run where all is well: they change nothing but what a poll would."""


def pages() -> dict[str, str]:
    """Each page by its heading."""
    parts = re.split(r"^#{2,3} (.+)$", RUNBOOK, flags=re.M)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def anchor(heading: str) -> str:
    """The anchor that GitHub makes of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def command_lines() -> list[str]:
    """Every line of every command block; a block is one to paste, or what a command prints."""
    blocks = re.findall(r"^```\n(.*?)^```$", RUNBOOK, re.M | re.S)
    return [line for block in blocks for line in block.splitlines() if not line.startswith("safe:")]


PAGES, LINES = pages(), command_lines()
KEYTURN = [shlex.split(line)[1:] for line in LINES if line.startswith("keyturn ")]
ALERTS = re.findall(r"^ +- alert: (\w+)$", RULES, re.M)


def test_each_alert_leads_to_a_page_of_its_own() -> None:
    """And no page is of an alert that is no more."""
    urls = re.findall(r"^ +runbook_url: (\S+)$", RULES, re.M)
    assert urls == [f"{BASE}{anchor(alert)}" for alert in ALERTS]
    assert [alert for alert in ALERTS if alert not in PAGES] == []
    assert [page for page in PAGES if re.fullmatch(r"Keyturn\w+", page) and page not in ALERTS] == []


@pytest.mark.parametrize("alert", ALERTS)
def test_the_page_of_an_alert_says_what_to_see_do_and_verify(alert: str) -> None:
    """With a command to paste."""
    page = PAGES[alert]
    assert re.findall(r"^\*\*(See|Do|Verify)\.\*\*", page, re.M) == ["See", "Do", "Verify"]
    assert "```" in page


def test_the_first_page_is_of_a_key_that_leaked() -> None:
    """From the report to the document, in the first commands of the page."""
    assert next(iter(PAGES)) == "A key has leaked"
    said = PAGES["A key has leaked"]
    for words in ("keyturn plan ", "--disable-old", "--delete-old", "--report ", "keyturn audit incident"):
        assert words in said, words


def test_each_thing_that_status_shows_has_a_page() -> None:
    """States, failures, alarms, pickups, the canary's outcomes: by the words that `status`, log and audit use."""
    headings = "\n".join(PAGES)
    states = [f"State {state}" for state in Condition if state is not Condition.FRESH]
    failures = [event for event in Event if event.endswith(("_failed", "_gave_up"))]
    canary = [outcome for outcome in Verdict if outcome is not Verdict.ACCEPTED]
    wanted = [*states, *failures, *Kind, *canary, Pickup.NOT_PICKED_UP, "Config refused", "ClientKey", "differs from"]
    assert [str(word) for word in wanted if str(word) not in headings] == []


FAILED_FETCH = {
    errors.SourceUnavailableError: "the source is unavailable",
    errors.SourceRefusedError: "the source refuses",
    errors.NotPermittedError: "not permitted",
    errors.LeakedKeyError: "a key restricted as leaked",
    errors.BadAnswerError: "a bad answer",
    errors.CredentialFileError: "a file that the provider reads",
}


def test_each_class_of_a_failed_fetch_says_what_to_do() -> None:
    """Those that `Provider.fetch` names; the others are of commands, or have pages of their own."""
    table = dict(re.findall(r"^\| \*\*(.+?)\*\*(?:.*?) \| (.+) \|$", PAGES["fetch_failed"], re.M))
    assert [words for words in FAILED_FETCH.values() if not table.get(words)] == []


def test_links_lead_to_pages() -> None:
    """Within the runbook: each anchor is a heading's."""
    known = set(map(anchor, PAGES))
    assert [target for target in re.findall(r"\]\(#([^)]+)\)", RUNBOOK) if target not in known] == []


def test_each_block_is_a_shells() -> None:
    """Nothing in it is an ellipsis or a placeholder that a shell stumbles over."""
    done = subprocess.run(["sh", "-n"], input="\n".join(LINES), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert [line for line in LINES if re.search(r"[<>…\[\]]", line)] == []


def test_each_keyturn_command_is_one_of_the_example_config() -> None:
    """The command line takes it, and the credential that it names is in keyturn.example.toml."""
    known = tomllib.loads((ROOT / "keyturn.example.toml").read_text())["credentials"]
    assert len(KEYTURN) > 50
    for words in KEYTURN:
        options: Any = vars(parser().parse_args(words))
        names = [options.get("name"), options.get("credential"), *options.get("names", ())]
        assert [name for name in names if name is not None and name not in known] == [], words


def test_the_commands_that_change_nothing_do_what_the_page_says(vm: Vm) -> None:
    """Each is run once, as it stands, where a daemon runs and all is well."""
    vm.configure(vm.credential())
    daemon = vm.daemon().ready()
    before = vm.cloud.current_key("uploader-ak").access_key_id
    for words in dict.fromkeys(map(tuple, KEYTURN)):
        if not {words[:1], words[:2]} & READS or "--from-seq" in words:
            continue
        done = vm.keyturn(*words)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
    assert vm.holds(before)
    assert daemon.stop() == 0


def test_the_first_page_ends_a_leak_and_leaves_a_document(station: Station) -> None:
    """Its commands, in their order and as they stand: disabled, proved, everybody moved, report attached."""
    vm = station.vm
    vm.configure(vm.credential() + station.emergency())
    daemon = vm.daemon().ready()
    old = station.current
    page = PAGES["A key has leaked"].replace("incident.html", str(vm.directory / "incident.html"))
    commands = [shlex.split(line)[1:] for line in page.splitlines() if line.startswith("keyturn ")]
    said = {tuple(words): vm.keyturn(*words) for words in commands if "--delete-old" not in words}
    assert [(words, done.stderr) for words, done in said.items() if done.returncode] == []
    (rotated,) = [done.stdout for words, done in said.items() if words[0] == "rotate"]
    last = rotated.splitlines()[-1]
    assert last.startswith("safe: ") and "all moved" in last
    assert station.status_of(old) == "Inactive"
    assert old in (vm.directory / "incident.html").read_text() and old in said["audit", "incident", *UPLOADER].stdout
    assert daemon.stop() == 0

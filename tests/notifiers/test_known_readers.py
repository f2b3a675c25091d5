"""What is known of the readers: one table for `check`, for the judgement of a notification, and for people."""

from __future__ import annotations

import re
from pathlib import Path

from agent.app.wiring import SINKS
from agent.core.problem import Problem
from agent.notifiers.interface import Pickup
from agent.notifiers.known_readers import READ_ONCE, READERS, Again, Known, of_a_kept_process, of_sink

DOCUMENT = Path(__file__).resolve().parents[2] / "docs/consumers.md"


def test_the_page_for_people_has_the_table_as_it_is() -> None:
    """docs/consumers.md and `READERS` say the same, line for line."""
    rows = re.findall(
        r"^\| (.+?) \| (.+?) \| `(.+?)` \| (.+?) \| (run|read)(?:: (.+))? \|$", DOCUMENT.read_text(), re.M
    )
    assert rows == [
        (one.client, one.versions, one.source, str(one.again), str(one.known), one.where) for one in READERS
    ]


def test_what_was_not_run_says_where_it_was_read() -> None:
    """With a file of the client's source; and nothing is in the table twice."""
    assert all(re.search(r"\.(go|java|cs|php|py|cpp)\b", one.where) for one in READERS if one.known is Known.READ)
    assert len({(one.client, one.source) for one in READERS}) == len(READERS)


def test_each_sink_that_alibabas_clients_read_is_in_it() -> None:
    """A new sink with known readers belongs there; a template and a directory have none of their own."""
    known = {one.source.partition(" ")[0] for one in READERS} - {"credential_process", "credentials_uri"}
    assert known == SINKS.keys() - {"template", "directory", "credentials_uri"}


def test_java_and_csharp_are_not_told_to_restart() -> None:
    """They read credentials.ini at each call: said by `check` of the sink, and where a reload is doubted."""
    assert of_sink("credentials_ini").startswith("read again at each call by the SDKs for Java and C#; read once by")
    doubt = of_a_kept_process(frozenset({"credentials_ini"}), Problem(""), "restart it")
    assert doubt is not None and "the SDKs for Java and C#" in doubt.text and doubt.pickup is Pickup.ASSUMED


def test_a_client_that_asks_makes_no_news_vain() -> None:
    """With a profile in mode External nothing speaks against a reload, whatever else is written."""
    asked = {one.source for one in READERS if one.again is Again.IN_TIME}
    assert "aliyun_cli External" in asked and not asked & READ_ONCE
    for source in asked:
        assert of_a_kept_process(frozenset({source, "env_file"}), Problem(""), "restart it") is None


def test_nothing_known_is_nothing_said() -> None:
    """A template is read by whoever it was written for."""
    assert of_sink("template") == "" and of_sink("env_file") == "read once by every process"

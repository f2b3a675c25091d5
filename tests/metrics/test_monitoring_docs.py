"""Rules and dashboard cannot lie: every metric, label and value that they ask for is one that the agent shows."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.canary.look import Verdict
from agent.core.policy import Condition
from agent.metrics.counters import NOTIFICATIONS, REFRESHES
from agent.metrics.snapshot import FleetFigures
from tests.support.scraper import Figures, row, shown

HERE = Path(__file__).resolve().parents[2] / "docs" / "monitoring"
RULES, RULE_TESTS, DASHBOARD = HERE / "keyturn.rules.yml", HERE / "keyturn.rules.test.yml", HERE / "dashboard.json"
TEXTS = [RULES, RULE_TESTS, DASHBOARD, HERE.parent / "monitoring.md"]
HOST_STATES = ("live", "behind", "absent")
VALUES = {"state": {*Condition, *HOST_STATES}, "outcome": {*REFRESHES, *NOTIFICATIONS, *Verdict}}
ADDED = {"instance", "job", "le"}
"""Labels that Prometheus adds, and the one of histograms."""
USED = re.compile(r"\b(keyturn_[a-z_]+)(?:\{([^{}]*)\})?")
MATCHER = re.compile(r'([a-z_]+)\s*(?:=~|!~|!=|=)\s*\\?"([^"\\]*)\\?"')


def everything() -> str:
    """All metrics that there are."""
    fleet = FleetFigures(True, {"a": dict.fromkeys(HOST_STATES, 1)}, {"a": 1.5}, {"a": True})
    rows = row(took_s=[0.1], canary={"accepted": 1}, key_made_at=1.0)
    return shown(rows, client_keys=(("KAAP.1", 2.0),), fleet=fleet)


def samples() -> dict[str, set[str]]:
    """Every sample that the agent shows, with its labels."""
    found: dict[str, set[str]] = {}
    for family in Figures(everything()).families:
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def uses(text: str) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Every metric that a text names, with its matchers."""
    for name, selector in USED.findall(text):
        yield name, MATCHER.findall(selector)


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_every_metric_label_and_value_exists(path: Path) -> None:
    """A renamed metric, label, state or outcome is found here, not in an alert that never fires."""
    known, wrong = samples(), list[str]()
    found = list(uses(path.read_text()))
    assert found
    histograms = {"keyturn_publish_seconds"}
    for name, matchers in found:
        if name not in known and name not in histograms:
            wrong.append(name)
            continue
        for label, value in matchers:
            if label not in known.get(name, set()) | ADDED:
                wrong.append(f"{name}{{{label}}}")
            if label in VALUES and value not in VALUES[label]:
                wrong.append(f'{name}{{{label}="{value}"}}')
    assert wrong == []


def test_every_metric_is_used_and_explained() -> None:
    """Each metric is in the document, and the dashboard or a rule uses it."""
    named = {name.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count") for name in samples()}
    document = (HERE.parent / "monitoring.md").read_text()
    used = RULES.read_text() + DASHBOARD.read_text()
    assert [name for name in named if name not in document] == []
    assert [name for name in named if name not in used] == []


def queries() -> list[str]:
    whole: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return [target["expr"] for panel in whole["panels"] for target in panel["targets"]]


def test_the_dashboard_is_one() -> None:
    """Grafana takes it: JSON with panels that do not overlap, each with a query; the data source is the reader's choice."""
    whole = json.loads(DASHBOARD.read_text())
    assert whole["title"] and whole["uid"] and whole["schemaVersion"] >= 30
    assert all(panel["title"] and panel["targets"] for panel in whole["panels"])
    assert len({panel["id"] for panel in whole["panels"]}) == len(whole["panels"])
    assert {panel["datasource"]["uid"] for panel in whole["panels"]} == {"${datasource}"}
    taken = [
        (x, y)
        for place in (panel["gridPos"] for panel in whole["panels"])
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(taken) == len(set(taken)) and max(x for x, _y in taken) < 24


@pytest.fixture
def promtool() -> str:
    """Debian's package `prometheus` brings it."""
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not installed (Debian: apt-get install prometheus)")
    return found


def passes(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, cwd=HERE, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_rules_fire_when_they_should(promtool: str) -> None:
    """promtool checks them and runs their tests."""
    passes(promtool, "check", "rules", RULES)
    passes(promtool, "test", "rules", RULE_TESTS)


def test_every_rule_is_tested() -> None:
    """Each alert has a case in which it fires."""
    alerts = set(re.findall(r"^ +- alert: (\w+)$", RULES.read_text(), re.M))
    fired = set(re.findall(r"alertname: (\w+)\n +exp_alerts:", RULE_TESTS.read_text()))
    assert alerts == fired


def test_every_query_of_the_dashboard_is_promql(promtool: str, tmp_path: Path) -> None:
    """Written as recording rules, with the dashboard's variables put in, promtool takes them."""
    variables = {"$__rate_interval": "5m", "$instance": ".*", "$credential": ".*"}
    lines = ["groups:", "- name: dashboard", "  rules:"]
    for number, query in enumerate(queries()):
        for name, value in variables.items():
            query = query.replace(name, value)
        assert "$" not in query
        lines += [f"  - record: dashboard:{number}", f"    expr: {json.dumps(query)}"]
    (tmp_path / "rules.yml").write_text("\n".join(lines) + "\n")
    passes(promtool, "check", "rules", tmp_path / "rules.yml")


def test_what_the_agent_shows_is_what_promtool_takes(promtool: str) -> None:
    """`promtool check metrics` reads the exposition and has nothing to say against its names."""
    text = everything()
    done = subprocess.run(
        [promtool, "check", "metrics"], input=text, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")

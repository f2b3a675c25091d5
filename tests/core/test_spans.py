"""Spans of time, spelled as in the config."""

from datetime import UTC, datetime, timedelta

import pytest

from agent.config.duration import duration
from agent.core.spans import span, until, whole_span

NOW = datetime(2026, 11, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(-3, "0s"), (0.4, "0s"), (119, "119s"), (120, "2m"), (7199, "120m"), (7200, "2h"), (864000, "10d")],
)
def test_a_span_is_rounded_to_its_unit(seconds, said):
    """Two of a unit at least: 119 seconds are not two minutes."""
    assert span(seconds) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0s"), (0.5, "500ms"), (1.5, "1500ms"), (60, "1m"), (90, "90s"), (3600, "1h"), (5400, "90m"), (86400, "1d"),
        (1234567, "1234567s"),
    ],
)  # fmt: skip
def test_a_whole_span_loses_nothing(seconds, said):
    """It could stand in a config as it is."""
    assert whole_span(seconds) == said
    assert duration(said) == seconds


@pytest.mark.parametrize(("seconds", "said"), [(0.5, "now"), (-0.9, "now"), (61, "in 61s"), (-7200, "2h ago")])
def test_how_far_a_moment_is(seconds, said):
    """On either side of now."""
    assert until(NOW + timedelta(seconds=seconds), NOW) == said

"""The HTML of `audit incident` in a real Chromium: light, dark, on a telephone and on paper."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest

from agent.audit.proof import verify_against
from agent.core.errors import KeyturnError
from agent.evidence.formats import Format
from agent.evidence.incident_file import written
from agent.evidence.incident_from_log import Frame, emergencies_in, incident_from_log, newest
from tests.support.chromium import PROGRAM, Chromium
from tests.support.written_logs import two_years

pytestmark = pytest.mark.skipif(not PROGRAM, reason="no Chromium here: apt-get install chromium")


def raised(error: KeyturnError) -> None:
    raise error


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    log = two_years(tmp_path_factory.mktemp("log"))
    found = emergencies_in(log.path, raised)
    emergency = newest(found.found(), "billing")
    frame = Frame(datetime(2026, 10, 20, tzinfo=UTC), "0.0", "team billing")

    def prove(first_seq):
        return verify_against(log.path, log.head, first_seq=first_seq)

    return written(incident_from_log(log.path, prove, found, emergency, frame, raised), Format.HTML)


@pytest.mark.parametrize(("dark", "ground"), [(False, "rgb(255, 255, 255)"), (True, "rgb(20, 24, 28)")])
@pytest.mark.parametrize("width", [320, 1200])
def test_it_fits_the_screen_in_the_readers_colours(page, tmp_path, width, dark, ground):
    """Long commands and key ids are wrapped; the page's own style is let through by its policy."""
    seen = Chromium(tmp_path).measure(page, width, dark=dark)
    assert (seen["wide"] <= 0, seen["ground"]) == (True, ground)
    assert seen["title"] == "Emergency of billing: AccessKey LTAI5tBilling0000000001"


def test_on_paper(page, tmp_path):
    """A4, in a few pages."""
    assert 1 < len(re.findall(rb"/Type\s*/Page\b", Chromium(tmp_path).paper(page))) <= 6

"""An incident in each of its formats."""

from __future__ import annotations

import json

from agent.evidence.actiontrail import looks
from agent.evidence.formats import Format
from agent.evidence.incident import Incident, as_json
from agent.evidence.incident_page import page_of
from agent.evidence.page import render
from agent.evidence.page_markdown import markdown


def written(incident: Incident, form: Format) -> str:
    """Return the document, whole."""
    if form is Format.JSON:
        look = [{"what": one.what, "command": one.command} for one in looks(incident)]
        return json.dumps({**as_json(incident), "how_to_look": look}, indent=2, ensure_ascii=False) + "\n"
    page = page_of(incident)
    return "".join(render(page) if form is Format.HTML else markdown(page))

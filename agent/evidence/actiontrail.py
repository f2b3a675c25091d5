"""Where to look for what keyturn cannot know: what was done with a key, by whom, from where. ActionTrail has it.

Facts: ActionTrail's API 2020-07-06 (LookupEvents, GetAccessKeyLastUsedProducts, GetAccessKeyLastUsedIps) and its pages "How do I
query ... the call records of the AccessKey pair" and "How do I configure the LookupAttribute parameter"; the commands are those of
the `aliyun` CLI's own examples. The events of the last 90 days can be looked up, 30 days and a region at a time, at most 50 in one
answer; the audit of a single AccessKey goes back 400 days, is hours behind, and does not know every service.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from datetime import datetime, timedelta

from agent.core.timestamps import rfc3339
from agent.evidence.incident import Incident

SPAN = timedelta(days=30)
"""ActionTrail, LookupEvents: the longest span of one question; its events go 90 days back."""
AFTERWARDS = timedelta(hours=1)
"""For which whoever has the key is watched trying, after it was refused."""


@dataclass(frozen=True, slots=True)
class Look:
    """One way to look, and the command or query to be pasted."""

    what: str
    command: str


def window(incident: Incident) -> tuple[datetime, datetime]:
    """Return from when to when the use of the key is of interest, as far as one question to ActionTrail goes back from its end."""
    old = incident.old
    over = old.refused_at or old.deleted_at or old.disabled_at
    end = incident.made_at if over is None else min(incident.made_at, over + AFTERWARDS)
    end = max(end, incident.commanded_at).replace(microsecond=0) + timedelta(seconds=1)
    begin = end - SPAN
    return (max(begin, old.created_at) if old.created_at else begin), end


def looks(incident: Incident) -> tuple[Look, ...]:
    """Return how to look what was done with the key that leaked; none where the key is not known."""
    if not incident.old.access_key_id:
        return ()
    begin, end = window(incident)
    key_id, region = shlex.quote(incident.old.access_key_id), shlex.quote(incident.region)
    quoted = incident.old.access_key_id.replace("\\", "\\\\").replace('"', '\\"')
    events = Look(
        "Every event of the key in one region, the newest first, 50 at a time: go on with --NextToken, run it for each region "
        "that you use, with earlier times for what was before (90 days back, 30 in one question), and again later with later "
        "ones, to see who still tries:",
        f"aliyun actiontrail LookupEvents --region {region} --StartTime {rfc3339(begin)} --EndTime {rfc3339(end)} "
        f"--LookupAttribute.1.Key EventAccessKeyId --LookupAttribute.1.Value {key_id} --MaxResults 50",
    )
    trail = Look(
        "The same in the Logstore of a trail, over all regions and for as long as it is kept:",
        f'* AND "event.userIdentity.accessKeyId": "{quoted}"',
    )
    if incident.old.is_session:
        return events, trail
    return (
        events,
        Look(
            "Which services the key was last used for; hours behind, up to 400 days back:",
            f"aliyun actiontrail GetAccessKeyLastUsedProducts --region {region} --AccessKey {key_id}",
        ),
        Look(
            "From which addresses, for each of these services (here Ecs):",
            f"aliyun actiontrail GetAccessKeyLastUsedIps --region {region} --AccessKey {key_id} --ServiceName Ecs",
        ),
        trail,
    )

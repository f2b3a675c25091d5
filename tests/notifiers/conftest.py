"""What every notifier's test needs: an event to tell, and a cancel that nobody sets."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import pytest

from agent.core.events import PublishEvent, Trigger


@pytest.fixture
def event() -> PublishEvent:
    """A publish with every field filled."""
    return PublishEvent(
        event="published",
        credential="uploader",
        generation=7,
        trigger=Trigger.POLL,
        access_key_id="LTAI5tExample",
        version_id="v-7",
        expiration=datetime(2026, 11, 22, 12, 0, tzinfo=UTC),
        sinks=("/etc/uploader/credentials.ini#default", "/run/uploader/aliyun.env"),
    )


@pytest.fixture
def cancel() -> threading.Event:
    """An agent that is not stopping."""
    return threading.Event()

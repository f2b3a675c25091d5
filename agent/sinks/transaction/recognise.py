"""The recognition of a published file after a restart, when the secrets of its value are not known, by the AccessKey's id."""

from __future__ import annotations

from collections.abc import Callable

from agent.core.credential import Credential
from agent.core.errors import SinkError
from agent.core.secret import Secret

_ID = "LTAI0a0sample0of0keyturn"
_SAMPLE = Credential(access_key_id=_ID, access_key_secret=Secret("0" * 30))


def is_of(content: bytes, access_key_id: str, render: Callable[[Credential], bytes]) -> bool:
    """Return whether a file holds what was published of this AccessKey, as far as that can be told.

    Args:
        content: of the file.
        access_key_id: "" for a bearer token, which has none.
        render: returns what the file would hold of a value. A format that leaves the id out, or encodes it, cannot be
            recognised by it: then any content will do.
    """
    if not content:
        return False
    return access_key_id.encode() in content or not _shows_id(render)


def _shows_id(render: Callable[[Credential], bytes]) -> bool:
    try:
        return _ID.encode() in render(_SAMPLE)
    except SinkError:
        return True  # it cannot be rendered just now: the file is not taken for right

"""The bill of materials: what the lock has, as CycloneDX 1.5 (cyclonedx.org), which scanners read."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from keyturn_deb import wheels
from keyturn_deb.source import Source

_PINNED = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)(?: ; ([^\\]+?))? ?\\?$", re.M)


def document(source: Source, files: Mapping[str, str]) -> str:
    """Return it as JSON, the same for the same tree.

    Args:
        source: the checkout: version, lock, time.
        files: name -> SHA-256 in hexadecimal of what is released.
    """
    libraries = [_library(block) for block in wheels.requirements(source.text("requirements/runtime.lock"))]
    own = _component("application", "keyturn", source.version) | {
        "licenses": [{"license": {"id": "Apache-2.0"}}],
        "externalReferences": [
            {"type": "distribution", "url": name, "hashes": [{"alg": "SHA-256", "content": digest}]}
            for name, digest in sorted(files.items())
        ],
    }
    content = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "timestamp": datetime.fromtimestamp(source.epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": own,
        },
        "components": libraries,
        "dependencies": [{"ref": own["bom-ref"], "dependsOn": [one["bom-ref"] for one in libraries]}],
    }
    serial = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(content, sort_keys=True))
    return json.dumps({**content, "serialNumber": f"urn:uuid:{serial}"}, indent=1, sort_keys=True) + "\n"


def _library(block: str) -> dict[str, Any]:
    """Return one requirement of the lock; what only some platforms need is "optional"."""
    found = _PINNED.search(block)
    assert found is not None, block
    return _component("library", found[1], found[2]) | {"scope": "optional" if found[3] else "required"}


def _component(kind: str, name: str, version: str) -> dict[str, Any]:
    address = f"pkg:pypi/{name.lower().replace('_', '-')}@{version}"
    return {"type": kind, "name": name, "version": version, "purl": address, "bom-ref": address}

"""`keyturn policy`: the least RAM policy for each identity of the config."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator

from agent.app import wiring
from agent.cli import output
from agent.core.errors import EXIT_DONE
from agent.core.names import known_names
from agent.ram_policy.documents import Identity, Json, placeholders_in
from agent.ram_policy.identities import identities
from agent.systemd_setup.unit import with_credentials


def policy(options: argparse.Namespace) -> int:
    """Print the policies, each with a heading; nothing is asked of the cloud."""
    environ = with_credentials(os.environ)
    settings = wiring.load_settings(options.config, environ)
    only = options.credential
    if only is not None:
        known_names(list(settings.credentials), [only])
    found = identities(settings, environ, only)
    objects = [one.as_json() for one in found]
    missing = placeholders_in(json.dumps(objects))
    if options.json:
        answer = {"config": options.config, "identities": objects, "placeholders": missing}
        print(output.json_line(answer, options.out), file=options.out)
        return EXIT_DONE
    own, collectors = [one for one in found if not one.is_collector], [one for one in found if one.is_collector]
    if not own:
        print(
            "# keyturn asks nothing of the cloud for this that takes a permission; what the application does is not known here"
        )
    for one in own:
        print("\n".join(_shown(one)))
    if collectors:
        print(
            "# ---- Only where the audit log is shipped to Simple Log Service: one of these, for the collector (docs/shipping.md)\n"
        )
    for one in collectors:
        print("\n".join(_shown(one)))
    if missing:
        print("# Put in their place:")
        for name, how in missing.items():
            print(f"#   {name}: {how}")
    return EXIT_DONE


def _shown(one: Identity) -> Iterator[str]:
    """Yield the lines for one identity: what begins with # is no part of a policy."""
    yield output.one_line(f"# {one.name}")
    yield output.one_line(f"#   in {', '.join(one.used_by)}")
    policy = one.policy()
    if policy is not None:
        yield from _document("attach this policy to it:", policy)
    for option in one.options:
        yield from _document(f"only for `keyturn {option}`, attach this besides:", one.policy(option))
    for rule in one.access_point:
        yield from _document("its permission policy, in the words of the KMS console:", rule)
    if one.trust_policy is not None:
        yield from _document("its trust policy:", one.trust_policy)
    if policy is None and not one.access_point:
        yield "#   keyturn itself needs no permission of it; what the application does with it is not known here"
    yield from (output.one_line(f"#   {note}") for note in one.notes)
    yield ""


def _document(heading: str, shown: Json | None) -> Iterator[str]:
    yield f"#   {heading}"
    yield json.dumps(shown, indent=2)

"""`keyturn policy` as it is typed: JSON that pastes, and one object for programs."""

from __future__ import annotations

import json
from typing import Any

from tests.support.vm import Vm

EMERGENCY = """
[credentials.uploader.emergency]
ram_user_name = "uploader"
authority = { type = "access_key", access_key_id_from_file_path = "/k/id", access_key_secret_from_file_path = "/k/secret" }
"""


def documents(text: str) -> list[Any]:
    """What is left when the headings are taken away."""
    decoder, left = (
        json.JSONDecoder(),
        "\n".join(line for line in text.splitlines() if not line.startswith("#")).strip(),
    )
    found = []
    while left:
        one, end = decoder.raw_decode(left)
        found.append(one)
        left = left[end:].strip()
    return found


def test_the_text_is_headings_and_json(vm: Vm) -> None:
    """Each document stands below a heading that names the identity and its place; no packet is sent, no secret is read."""
    vm.configure(vm.credential(), EMERGENCY)
    done = vm.keyturn("policy", "--credential", "uploader")
    assert done.returncode == 0
    rule, policy, delete = documents(done.stdout)
    assert rule["Accessible resources"] == ["secret/uploader-ak"]
    assert [one["Version"] for one in (policy, delete)] == ["1", "1"]
    assert "credentials.uploader.emergency.authority" in done.stdout
    assert "<ACCOUNT_ID>: " in done.stdout
    assert not vm.cloud.calls


def test_json_is_one_object(vm: Vm) -> None:
    """With the same documents, who they are for, and how each placeholder is found."""
    vm.configure(vm.credential(), EMERGENCY)
    done = vm.keyturn("policy", "--json")
    found = json.loads(done.stdout)
    assert found["config"] == str(vm.config)
    authority = next(
        one for one in found["identities"] if one["used_by"] == ["credentials.uploader.emergency.authority"]
    )
    assert {"kms:RotateSecret", "ram:UpdateAccessKey"} <= authority["uses"].keys()
    assert authority["only_for"].keys() == {"rotate --delete-old"}
    assert found["placeholders"].keys() >= {"<ACCOUNT_ID>", "<HOST_ADDRESS>", "<SLS_PROJECT>"}


def test_a_credential_that_is_not_there_is_wrong_usage(vm: Vm) -> None:
    """The nearest name is offered."""
    vm.configure(vm.credential())
    done = vm.keyturn("policy", "--credential", "uploadr")
    assert done.returncode == 2
    assert "uploader" in done.stderr

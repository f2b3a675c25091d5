"""The rig of a third party's provider: the example of docs/third_party.md, found by its entry point."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from tests.support.plugins import packaged
from tests.support.rigs.local import NO_CONNECTION, UNENDING
from tests.support.rigs.rig import BAD, Case, Rig, Verdict, World, toml

EXAMPLE = Path(__file__).parents[3] / "docs" / "example_provider"


def install(site: Path) -> Path:
    """What an installer leaves of the example in a directory of packages; that pip does is tested with the provider."""
    return packaged(site, "keyturn_json_file", (EXAMPLE / "keyturn_json_file.py").read_text(), "JsonFile", "json_file")


class JsonFile(Rig):
    """A JSON file of another tool. Whatever is wrong with it, twenty lines call it a bad answer."""

    title = "json_file, a third party's"
    type_name = "json_file"
    lacks: ClassVar[Mapping[Case, str]] = {
        **NO_CONNECTION,
        Case.FORBIDDEN: "twenty lines do not look at a file's rights; its README says who should be let in",
        Case.HANG: "it would wait at a FIFO for good: the engine leaves it behind (tests/e2e/test_third_party.py)",
        Case.DRIP: "a file is read in one piece",
        Case.REDIRECT: "a link is followed",
        Case.EXPIRED: UNENDING,
    }
    verdicts: ClassVar[Mapping[Case, Verdict]] = {Case.GONE: BAD}

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.cloud.add_user("rig-tool")
        self.change()

    def table(self, name: str) -> str:
        return toml({"type": self.type_name, "path": self._path})

    def owner(self) -> str:
        return ":user/rig-tool"

    def change(self) -> None:
        self._key = self.cloud.add_access_key("rig-tool")
        self._put(self._key.access_key_secret)

    def _put(self, secret: str) -> None:
        said = {"id": self._key.access_key_id, "secret": secret}
        self._path = self.world.write("tool.json", json.dumps(said))

    def suffer(self, case: Case) -> None:
        secret = self._key.access_key_secret
        if case is Case.GONE:
            self._path.unlink()
        elif case is Case.OVERSIZED:
            self._put(secret * 5000)
        else:
            contents = {Case.RUBBISH: f"secret: {secret}", Case.EMPTY: "", Case.WRONG_SHAPE: json.dumps([secret])}
            self.world.write("tool.json", contents[case])

    def heal(self) -> None:
        super().heal()
        self._put(self._key.access_key_secret)


RIGS = (JsonFile,)

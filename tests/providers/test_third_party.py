"""Third parties' providers: how their packages are loaded, and the example of docs/third_party.md."""

from __future__ import annotations

import ast
import sys
import textwrap
import tomllib
from pathlib import Path

import pytest

import providers
from agent.app import wiring
from agent.core import errors
from agent.core.errors import ConfigError

ROOT = Path(__file__).parents[2]
CANARY = "CanaryOfAThirdParty0123"


def package(monkeypatch: pytest.MonkeyPatch, directory: Path, name: str, code: str) -> None:
    """Put a distribution with one provider on the path."""
    info = directory / f"{name}-1.0.dist-info"
    info.mkdir()
    (directory / f"{name}.py").write_text(textwrap.dedent(code))
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[keyturn.providers]\n{name} = {name}:Found\n")
    monkeypatch.syspath_prepend(str(directory))
    monkeypatch.delitem(sys.modules, name, raising=False)


BROKEN = {
    "raises": (f"raise RuntimeError({CANARY!r})", "cannot be imported: RuntimeError"),
    "exits": (f"import sys; sys.exit({CANARY!r})", "cannot be imported: SystemExit"),
    "is no Python": (f"{CANARY} is", "cannot be imported: SyntaxError"),
    "lacks the class": ("", "cannot be imported: AttributeError"),
    "has another class": ("class Found: ...", "is not a subclass of agent.core.provider.Provider"),
    "bears no name": ("from agent.core.provider import Provider\nclass Found(Provider): ...", "has no type_name"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_package_that_cannot_be_used_is_a_config_error(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An import that raises, exits, or brings something else: one sentence with type and target, without its text."""
    code, words = BROKEN[what]
    package(monkeypatch, tmp_path, "brokenvendor", code)
    with pytest.raises(ConfigError) as caught:
        providers.load("brokenvendor")
    assert words in str(caught.value)
    assert str(caught.value).startswith("provider brokenvendor (brokenvendor:Found) ")
    assert CANARY not in str(caught.value)


EXITING = """
    import sys
    from dataclasses import dataclass
    from agent.core.provider import Provider
    from agent.core.settings import ProviderSettings

    @dataclass(frozen=True, kw_only=True)
    class Settings(ProviderSettings):
        a: str = ""

        def problems(self):
            yield "a", "is odd"
            sys.exit("CanaryOfAThirdParty0123")

    class Found(Provider):
        type_name, Settings = "exiting", Settings

        def _fetch(self, timeout_s): ...
"""


def test_settings_that_end_the_process_are_refused_as_others_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`problems` that calls sys.exit() is a problem of its own table, and what it said before is kept."""
    package(monkeypatch, tmp_path, "exiting", EXITING)
    config = tmp_path / "keyturn.toml"
    config.write_text('[credentials.a.provider]\ntype = "exiting"\n')
    with pytest.raises(ConfigError) as caught:
        wiring.load_settings(str(config), {})
    text = str(caught.value)
    assert "credentials.a.provider.a: is odd" in text
    assert "credentials.a.provider: refused by exiting.Settings (SystemExit)" in text
    assert CANARY not in str(caught.value)


# -- the example ------------------------------------------------------------------------------------------

EXAMPLE = ROOT / "docs" / "example_provider" / "keyturn_json_file.py"


def bare(code: str) -> str:
    """The code without docstrings, comments and layout."""
    tree = ast.parse(code)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return ast.dump(tree)


def test_the_docstring_shows_the_example_as_it_is() -> None:
    """What the docstring of `providers` shows is the code of docs/example_provider, which tests install and run."""
    shown = str(providers.__doc__).partition("package::\n")[2].partition("Its package names it")[0]
    assert bare(textwrap.dedent(shown)) == bare(EXAMPLE.read_text())


def test_the_example_is_twenty_lines_of_code() -> None:
    """A third party's provider is small: at most 20 lines besides docstrings, comments and blanks."""
    lines = [line.strip() for line in EXAMPLE.read_text().splitlines()]
    assert len([line for line in lines if line and not line.startswith(("#", '"""'))]) <= 20


def test_the_example_imports_the_stable_part_alone() -> None:
    """A third party may import agent.core, and the guide names each of its modules that it is to know."""
    imported = {node.module for node in ast.walk(ast.parse(EXAMPLE.read_text())) if isinstance(node, ast.ImportFrom)}
    guide = (ROOT / "docs" / "third_party.md").read_text()
    ours = {str(name) for name in imported if str(name).startswith(("agent", "providers"))}
    assert ours
    assert all(name.startswith("agent.core.") and f"`{name}`" in guide for name in ours)


def test_the_examples_package_names_it_in_the_group_that_keyturn_reads() -> None:
    """The entry point's name is the class's type_name, and the group is ours."""
    named = tomllib.loads((EXAMPLE.parent / "pyproject.toml").read_text())["project"]["entry-points"]
    assert named == {providers.ENTRY_POINTS: {"json_file": "keyturn_json_file:JsonFile"}}
    assert 'type_name, Settings = "json_file"' in EXAMPLE.read_text()


def test_the_guide_names_every_leaf_that_a_provider_may_raise() -> None:
    """Which errors to raise stands in docs/third_party.md, each with what keyturn does then."""
    guide = (ROOT / "docs" / "third_party.md").read_text()
    for leaf in ("SourceUnavailableError", "BadAnswerError", "SourceRefusedError", "NotPermittedError"):
        assert f"`{leaf}`" in guide
        assert hasattr(errors, leaf)
    assert "`CredentialFileError`" in guide

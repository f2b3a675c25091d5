"""Third parties' providers, in this process: whatever their code raises, returns, says or prints, keyturn goes on."""

from __future__ import annotations

import ast
import asyncio
import sys
import textwrap
import threading
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any, ClassVar

import pytest

import providers
from agent.app import check, wiring
from agent.core import errors
from agent.core.credential import Credential
from agent.core.errors import BadAnswerError, ConfigError, KeyturnError, SourceRefusedError, SourceUnavailableError
from agent.core.finding import Finding
from agent.core.provider import POLL_INTERVAL_S, Provider, ProviderContext
from agent.core.provider_guard import MAX_TEXT_CHARS, at_work
from agent.core.secret import Secret
from agent.core.settings import AgentSettings, AuditSettings, CredentialSettings, FilePath, ProviderSettings, Settings

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 11, 22, tzinfo=UTC)
CANARY = "CanaryOfAThirdParty0123"
GOOD = Credential("LTAI5tGood", Secret("s" * 30))


class Vendor(Provider):
    """A provider whose every part does what a test says."""

    type_name, Settings = "vendor", ProviderSettings
    acts: dict[str, Callable[[], Any]]

    def __init__(self, settings: Any, context: ProviderContext) -> None:
        self.acts = settings
        self._do("construct", None)
        super().__init__(settings, context)

    def _do(self, act: str, otherwise: Any) -> Any:
        return self.acts.get(act, lambda: otherwise)()

    @property
    def poll_interval_s(self) -> float:
        return self._do("pace", 7.0)

    def _fetch(self, timeout_s: float) -> Credential:
        return self._do("fetch", GOOD)

    def inspect(self) -> Iterator[Finding]:
        return self._do("inspect", iter(()))


def vendor(**acts: Callable[[], Any]) -> Vendor:
    return Vendor.made(acts, ProviderContext("uploader"))


def raising(error: BaseException) -> Callable[[], Any]:
    def act() -> Any:
        raise error

    return act


def whole(error: BaseException) -> str:
    """Everything that can be had from an error by whoever logs it, its causes included."""
    parts = [str(error), repr(error), repr(vars(error)), repr(error.args)]
    for other in (error.__cause__, error.__context__):
        parts.append(whole(other) if other is not None else "")
    return " ".join(parts)


# -- raises ---------------------------------------------------------------------------------------------

STRANGE = {
    "an exception": RuntimeError(CANARY),
    "an exit": SystemExit(CANARY),
    "a cancellation, which is no Exception": asyncio.CancelledError(CANARY),
    "the end of a generator": GeneratorExit(CANARY),
    "a stack that is too deep": RecursionError(CANARY),
    "no memory": MemoryError(CANARY),
}


@pytest.mark.parametrize("what", STRANGE)
def test_whatever_a_fetch_raises_is_a_bad_answer_that_names_its_type_alone(what: str) -> None:
    """One sentence with the credential, the provider and the exception's type; its text is nowhere, not in a cause."""
    with pytest.raises(BadAnswerError) as caught:
        vendor(fetch=raising(STRANGE[what])).fetch(NOW)
    text = str(caught.value)
    assert text.startswith("credentials.uploader: provider vendor failed with ")
    assert type(STRANGE[what]).__name__ in text
    assert CANARY not in whole(caught.value)


def test_an_interruption_by_the_operator_passes() -> None:
    """Ctrl-C ends keyturn also where it reaches Python in the middle of a provider."""
    with pytest.raises(KeyboardInterrupt):
        vendor(fetch=raising(KeyboardInterrupt())).fetch(NOW)


@pytest.mark.parametrize("what", STRANGE)
def test_a_constructor_that_raises_makes_the_config_unusable(what: str) -> None:
    """Exit code 78 and one sentence that names the credential; the text of the exception is nowhere."""
    with pytest.raises(ConfigError) as caught:
        vendor(construct=raising(STRANGE[what]))
    (problem,) = caught.value.problems
    assert problem.startswith("credentials.uploader: provider vendor cannot be made (")
    assert caught.value.exit_code == errors.EXIT_CONFIG
    assert CANARY not in whole(caught.value)


def test_a_constructor_that_forgets_its_parent_is_named() -> None:
    """Without the context no error could name the credential, so it is said at the start, not at the first fetch."""

    class Forgetful(Vendor):
        def __init__(self, settings: Any, context: ProviderContext) -> None:
            self.context = None  # type: ignore[assignment]

    with pytest.raises(ConfigError, match=r"credentials\.uploader: provider vendor hands no context"):
        Forgetful.made({}, ProviderContext("uploader"))


@pytest.mark.parametrize(
    "act", [*map(raising, STRANGE.values()), lambda: None, lambda: "soon", lambda: float("nan"), lambda: -5.0]
)
def test_a_pace_that_is_none_is_the_usual_one(act: Callable[[], Any]) -> None:
    """`poll_interval_s` that raises or says nonsense leaves a poll that is neither busy nor never."""
    assert vendor(pace=act).pace_s() in (POLL_INTERVAL_S, 1.0)


def test_a_poll_interval_in_the_settings_is_the_pace() -> None:
    """A provider that has the key needs no code for it."""

    @dataclass(frozen=True, kw_only=True)
    class Polled(ProviderSettings):
        poll_interval: float = 5.0

    class Polling(Vendor):
        poll_interval_s = Provider.poll_interval_s

        def __init__(self, settings: Any, context: ProviderContext) -> None:
            Provider.__init__(self, settings, context)

    assert Polling.made(Polled(type="polling"), ProviderContext("uploader")).pace_s() == 5.0


# -- errors of the family ---------------------------------------------------------------------------------


def test_an_error_of_the_family_passes_as_it_is() -> None:
    """The author's leaf, sentence, remedy and code reach the operator unchanged."""
    error = SourceRefusedError("credentials.uploader: the vault is sealed", "unseal it", code="Sealed")
    with pytest.raises(SourceRefusedError) as caught:
        vendor(fetch=raising(error)).fetch(NOW)
    assert caught.value is error


class OwnError(SourceUnavailableError):
    """A leaf of a third party's own, with a constructor that nobody here knows."""

    def __init__(self, host: str) -> None:
        Exception.__init__(self, host)
        self.problem, self.remedy, self.code = f"{host} is down", "wait", ""

    def __str__(self) -> str:
        raise RuntimeError(CANARY)


class EmptyError(KeyturnError):
    """One that says nothing."""

    def __init__(self) -> None:
        self.retryable = True


UNTIDY = {
    "control characters": (SourceRefusedError("red \x1b[31m\r\nline", "two\nlines"), SourceRefusedError),
    "no end": (SourceUnavailableError("x" * 100_000, "y" * 100_000), SourceUnavailableError),
    "no text": (BadAnswerError(b"bytes", None), BadAnswerError),  # type: ignore[arg-type]
    "a code that garbles": (SourceRefusedError("no", code="\x07"), SourceRefusedError),
    "a class of its own": (OwnError("vault"), SourceUnavailableError),
    "a class that says nothing": (EmptyError(), KeyturnError),
    "a config's error": (ConfigError(["one", "two"]), ConfigError),
    "a lone surrogate": (SourceRefusedError("\udcff no"), SourceRefusedError),
}


@pytest.mark.parametrize("what", UNTIDY)
def test_an_error_that_cannot_be_shown_is_made_so(what: str) -> None:
    """One printable line of bounded length, never empty, of the nearest leaf of ours, as retryable as it was."""
    given, leaf = UNTIDY[what]
    for act in ({"fetch": raising(given)}, {"construct": raising(given)}):
        with pytest.raises(KeyturnError) as caught:
            vendor(**act).fetch(NOW)
        error = caught.value
        assert type(error) is leaf
        assert str(error).isprintable() and str(error).strip()
        assert len(str(error)) <= 2 * MAX_TEXT_CHARS + 2
        assert error.retryable is given.retryable
        assert error.code.isprintable()
        type(error) is ConfigError or type(error)(error.problem, error.remedy, code=error.code)
        assert CANARY not in str(error)


# -- rubbish ----------------------------------------------------------------------------------------------


class Text(str):
    """What lxml and others return for a str; the state's encoder takes none of it."""


class Moment(datetime):
    """What pendulum and others return for a datetime."""


class Heir(Credential):
    """A subclass may do anything."""


class Leaky(Secret):
    """A secret that prints itself."""

    def __repr__(self) -> str:
        return self._value


class Broken(tzinfo):
    """A time zone that raises."""

    def utcoffset(self, _moment: datetime | None) -> timedelta:
        raise RuntimeError(CANARY)


def good(**parts: Any) -> Credential:
    return replace(GOOD, **parts)


LATER = NOW + timedelta(hours=1)

RUBBISH: dict[str, tuple[Any, str]] = {
    "nothing": (None, "is not a credential"),
    "a dict": ({"access_key_id": CANARY}, "is not a credential"),
    "the class": (Credential, "is not a credential"),
    "a generator": ((CANARY for _ in "x"), "is not a credential"),
    "a subclass": (Heir("LTAI5t", Secret(CANARY)), "is not a credential"),
    "an id in bytes": (good(access_key_id=CANARY.encode()), "has an access_key_id of the wrong type"),
    "an id that is no plain str": (good(access_key_id=Text("LTAI5t")), "has an access_key_id of the wrong type"),
    "an id as a secret": (good(access_key_id=Secret(CANARY)), "has an access_key_id of the wrong type"),
    "no id": (good(access_key_id=None), "has an access_key_id of the wrong type"),
    "an empty id": (good(access_key_id=""), "has no access_key_id"),
    "a secret as a str": (good(access_key_secret=CANARY), "has an access_key_secret of the wrong type"),
    "a secret that prints itself": (
        good(access_key_secret=Leaky(CANARY)),
        "has an access_key_secret of the wrong type",
    ),
    "a secret of no plain str": (
        good(access_key_secret=Secret(Text(CANARY))),
        "has an access_key_secret of the wrong type",
    ),
    "no secret": (good(access_key_secret=None), "has no access_key_secret"),
    "a token as a str": (good(security_token=CANARY), "has a security_token of the wrong type"),
    "a bearer token as a number": (good(bearer_token=7), "has a bearer_token of the wrong type"),
    "a secret with a blank": (good(access_key_secret=Secret(f"{CANARY} x")), "has an access_key_secret with a blank"),
    "a secret with its line break": (good(access_key_secret=Secret(f"{CANARY}\n")), "with a blank, a control"),
    "an endless secret": (good(access_key_secret=Secret(CANARY * 10_000)), "of more than"),
    "an expired one": (good(expiration=NOW), "is already expired"),
    "a naive expiration": (good(expiration=datetime(2027, 1, 1)), "without a time zone"),
    "an expiration as a number": (good(expiration=1_800_000_000), "has an expiration of the wrong type"),
    "an expiration as text": (good(expiration="2027-01-01T00:00:00Z"), "has an expiration of the wrong type"),
    "an expiration of another class": (
        good(expiration=Moment(2027, 1, 1, tzinfo=UTC)),
        "has an expiration of the wrong type",
    ),
    "the last day": (good(expiration=datetime.max.replace(tzinfo=UTC)), "has an expiration after the year"),
    "a time zone that raises": (good(expiration=LATER.replace(tzinfo=Broken())), "failed with RuntimeError"),
    "a version in two lines": (good(version_id=f"v1\n{CANARY}"), "has a version_id that is not one short line"),
    "a version without end": (good(version_id=CANARY * 100), "has a version_id that is not one short line"),
    "a version as a number": (good(version_id=1), "has a version_id that is not one short line"),
    "a user as a number": (good(ram_user_name=1), "has a ram_user_name that is not one short line"),
    "a user in two lines": (good(ram_user_name=f"u\n{CANARY}"), "has a ram_user_name that is not one short line"),
    "a user that is no plain str": (good(ram_user_name=Text("u")), "has a ram_user_name that is not one short line"),
}


@pytest.mark.parametrize("what", RUBBISH)
def test_rubbish_is_refused_by_name(what: str) -> None:
    """What is no credential is refused with what is wrong about it, never with what it holds."""
    answer, words = RUBBISH[what]
    with pytest.raises(BadAnswerError) as caught:
        vendor(fetch=lambda: answer).fetch(NOW)
    assert words in str(caught.value)
    assert str(caught.value).startswith("credentials.uploader: ")
    assert CANARY not in whole(caught.value)


def test_an_answer_from_another_time_zone_is_a_good_one() -> None:
    """Aware is enough: an expiration need not be in UTC, and a user and a version are taken as they are."""
    from zoneinfo import ZoneInfo

    answer = good(expiration=LATER.astimezone(ZoneInfo("Asia/Shanghai")), version_id="v1", ram_user_name="up loader")
    assert vendor(fetch=lambda: answer).fetch(NOW) is answer


# -- prints -----------------------------------------------------------------------------------------------


def test_who_is_at_work_is_known_while_its_code_runs_and_not_afterwards() -> None:
    """Construction, fetch and pace run as the provider's; also after an exception it is over (tests/logs/test_logs.py)."""
    seen = []
    one = vendor(
        construct=lambda: seen.append(at_work()),
        fetch=lambda: seen.append(at_work()),
        pace=lambda: seen.append(at_work()),
    )
    with pytest.raises(BadAnswerError):
        one.fetch(NOW)
    one.pace_s()
    assert seen == ["vendor"] * 3
    assert at_work() == ""


# -- loading ----------------------------------------------------------------------------------------------


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
    "bears a number": (
        "from agent.core.provider import Provider\nclass Found(Provider):\n    type_name = 7",
        "has no type_name",
    ),
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
    assert CANARY not in whole(caught.value)


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
    assert CANARY not in whole(caught.value)


# -- check ------------------------------------------------------------------------------------------------


@pytest.fixture
def looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Finding]]:
    """`keyturn check` of one credential whose provider does what the test says, with short limits."""
    monkeypatch.setattr(check, "INSPECT_S", 1.0)
    monkeypatch.setattr(check, "FETCH_S", 1.0)

    class Acted(Vendor):
        acts_of_test: ClassVar[dict[str, Any]] = {}

        def __init__(self, settings: Any, context: ProviderContext) -> None:
            super().__init__(self.acts_of_test, context)

    monkeypatch.setattr(providers, "load", lambda _name: Acted)

    def look(*, offline: bool = False, **acts: Callable[[], Any]) -> list[Finding]:
        Acted.acts_of_test = acts
        entry = CredentialSettings(provider=ProviderSettings(type="vendor"), verify="off")
        places = {"state_directory": FilePath(tmp_path / "state"), "runtime_directory": FilePath(tmp_path / "run")}
        agent = AgentSettings(**places, audit=AuditSettings(path=FilePath(tmp_path / "audit.jsonl")))
        found = check.findings(
            Settings(credentials={"uploader": entry}, agent=agent), "keyturn.toml", {}, offline=offline
        )
        return [one for one in found if one.place.startswith("credentials.uploader")]

    return look


def hang() -> None:
    threading.Event().wait(60)


def test_check_leaves_a_fetch_that_hangs_and_goes_on(looks: Callable[..., list[Finding]]) -> None:
    """The command comes to its end, and the line says who did not come back, and what to do."""
    errors_found = [one for one in looks(fetch=hang) if one.level == "error"]
    assert [(one.place, one.text) for one in errors_found] == [
        ("credentials.uploader.provider", "provider vendor did not come back within 1 s")
    ]
    assert errors_found[0].remedy


def slow_findings() -> Iterator[Finding]:
    yield Finding("ok", "", "the file is there")
    hang()


def endless_findings() -> Iterator[Finding]:
    while True:
        yield Finding("ok", "", "again")


def rude_findings() -> Iterator[Finding]:
    yield Finding("warning", "", f"red \x1b[31m\n{'x' * 10_000}", "two\nlines")
    raise SourceRefusedError("no\nline", "re\nmedy")


INSPECTS: dict[str, tuple[Callable[[], Any], list[tuple[str, str]]]] = {
    "hangs": (slow_findings, [("ok", "the file is there"), ("error", "provider vendor did not come back within")]),
    "hangs at once": (hang, [("error", "provider vendor did not come back within")]),
    "raises": (raising(RuntimeError(CANARY)), [("error", "provider vendor failed with RuntimeError")]),
    "exits": (raising(SystemExit(CANARY)), [("error", "provider vendor failed with SystemExit")]),
    "says nothing": (lambda: None, [("error", "provider vendor failed with TypeError")]),
    "says what is no finding": (lambda: iter([CANARY]), [("error", "provider vendor inspects, and says")]),
    "says an unknown level": (
        lambda: iter([Finding("fatal", "", CANARY)]),
        [("error", "provider vendor inspects, and says what is no finding")],
    ),
    "says more than a line": (rude_findings, [("warning", "red  [31m xxx"), ("error", "no line")]),
}


@pytest.mark.parametrize("what", INSPECTS)
def test_check_shows_an_inspection_that_goes_wrong(what: str, looks: Callable[..., list[Finding]]) -> None:
    """What was found before stays; what went wrong is a line of its own; each is one printable line."""
    act, wanted = INSPECTS[what]
    found = looks(inspect=act, offline=True)
    found = [one for one in found if one.place == "credentials.uploader.provider"]
    assert [one.level for one in found] == [level for level, _words in wanted]
    for one, (_level, words) in zip(found, wanted, strict=True):
        assert one.text.startswith(words)
        assert (one.text + one.remedy).isprintable()
        assert len(one.text) <= MAX_TEXT_CHARS
        assert CANARY not in one.text + one.remedy


def test_check_ends_an_inspection_that_never_does(looks: Callable[..., list[Finding]]) -> None:
    """A provider that finds and finds is cut off."""
    found = looks(inspect=endless_findings, offline=True)
    assert len([one for one in found if one.text == "again"]) == check.MAX_FINDINGS


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

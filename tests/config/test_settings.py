"""What a sound config becomes."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest

from agent.app import wiring
from agent.config.duration import duration
from agent.config.registry import Registry
from agent.config.unfit import Unfit
from agent.core.settings import CredentialSettings, Duration, ProviderSettings, Settings
from tests.support.settings import ENVIRON, GOOD, PROVIDER, REGISTRY, SINK, EnvFile, KmsSecret, problems, read

EXAMPLE = Path(__file__).parents[2] / "keyturn.example.toml"


def provider(line: str, **others: Any) -> Any:
    """Return the provider's settings of a sound config with one more line."""
    return read(PROVIDER + line + "\n" + SINK, **others).credentials["a"].provider


def test_the_example_is_sound() -> None:
    """The file that operators start from is a config, as keyturn itself reads it."""
    settings = read(EXAMPLE.read_bytes(), wiring.registry())
    reports: Any = settings.credentials["reports"].provider
    assert (reports.type, reports.base) == ("ram_role_arn", "uploader")
    uploader = settings.credentials["uploader"]
    assert [sink.type for sink in uploader.sinks] == ["credentials_ini", "env_file", "aliyun_cli"]
    assert uploader.emergency is not None and uploader.emergency.authority == "operator"
    operator: Any = settings.credentials["operator"].provider
    assert operator.access_key_id_from_file_path == "/run/credentials/keyturn.service/operator-id"


def test_the_example_shows_the_defaults_it_claims() -> None:
    """What the example says about `[agent]` and a credential is what a config without it gets."""
    shown, plain = read(EXAMPLE.read_bytes(), wiring.registry()), read(GOOD)
    for key in ("state_directory", "runtime_directory", "log_level", "log_format", "control_group", "settle", "audit"):
        assert getattr(shown.agent, key) == getattr(plain.agent, key), key
    for key in ("verify", "verify_timeout"):
        assert getattr(shown.credentials["uploader"], key) == getattr(plain.credentials["a"], key), key


def test_a_key_that_is_misspelt_is_not_missing_besides() -> None:
    """One slip, one problem, where the slip is: to add the other would leave both."""
    (problem,) = problems(GOOD.replace("secret_name =", "secretname ="))
    assert "credentials.a.provider.secretname" in problem and '"secret_name"' in problem


DURATIONS = {
    "0s": 0, "500ms": 0.5, "30s": 30, "15m": 900, "12h": 43200, "2d": 172800, "1h30m": 5400, "1d1ms": 86400.001,
}  # fmt: skip


@pytest.mark.parametrize(("text", "seconds"), DURATIONS.items())
def test_durations_are_seconds(text: str, seconds: float) -> None:
    """Every unit of the contract, and the larger unit before the smaller."""
    settle = read(f'{GOOD}[agent]\nsettle = "{text}"\n').agent.settle
    assert isinstance(settle, Duration) and settle == seconds


PATHS = {
    "/etc/x": "/etc/x",
    "/etc//./x/": "/etc/x",
    "//etc/x": "/etc/x",
    "/etc/link/../x": "/etc/link/../x",
    "${CREDENTIALS_DIRECTORY}/key": "/run/credentials/keyturn.service/key",
    "/opt/${RELATIVE}/${RELATIVE}": "/opt/etc/etc",
    "/opt/$5/$x$": "/opt/$5/$x$",
}


@pytest.mark.parametrize(("written", "meant"), PATHS.items())
def test_paths_draw_on_the_environment(written: str, meant: str) -> None:
    """`${VAR}` is replaced; any other `$` stays; `..` stays, since a symlink may stand before it."""
    assert provider(f'properties_file = "{written}"').properties_file == meant


def test_a_replaced_variable_is_not_replaced_again() -> None:
    """What the environment holds is taken as it is."""
    environ = {"A": "/x/${B}", "B": "no"}
    assert provider('properties_file = "${A}"', environ=environ).properties_file == "/x/${B}"


def test_only_paths_draw_on_the_environment() -> None:
    """A secret's name with `${` in it is that name."""
    assert provider('version_stage = "${HOME}"').version_stage == "${HOME}"


def test_directories_come_from_systemd() -> None:
    """The first of each of systemd's lists is used where the config says nothing."""
    environ = {"STATE_DIRECTORY": "/s/a:/s/b", "RUNTIME_DIRECTORY": "/r", "LOGS_DIRECTORY": "/l/"}
    agent = read(GOOD, environ=environ).agent
    assert (agent.state_directory, agent.runtime_directory, agent.audit.path) == ("/s/a", "/r", "/l/audit.jsonl")


def test_the_config_wins_over_systemd() -> None:
    """What the file says counts, whatever the environment says."""
    agent = read(GOOD + '[agent]\nstate_directory = "/mine"\n', environ={"STATE_DIRECTORY": "/s"}).agent
    assert agent.state_directory == "/mine"


def test_without_systemd_the_usual_places_are_used() -> None:
    """The defaults of the contract."""
    agent = read(GOOD, environ={"STATE_DIRECTORY": ""}).agent
    assert agent.state_directory == "/var/lib/keyturn"
    assert (agent.runtime_directory, agent.audit.path) == ("/run/keyturn", "/var/log/keyturn/audit.jsonl")


def test_unions_take_each_of_their_shapes() -> None:
    """An array and a table, an integer and an array of them."""
    header = GOOD + '[[credentials.a.sinks]]\ntype = "env_file"\npath = "/e"\n'
    presets = read(header + 'variables = ["oss"]\n').credentials["a"].sinks[1]
    assert isinstance(presets, EnvFile) and presets.variables == ("oss",)
    table = read(header + 'variables = { A = "access_key_id" }\n').credentials["a"].sinks[1]
    assert isinstance(table, EnvFile) and table.variables == {"A": "access_key_id"}
    for written, meant in (("204", 204), ("[200, 204]", (200, 204))):
        text = f'{GOOD}[[credentials.a.notify]]\ntype = "http"\nurl = "x"\nexpect_status = {written}\n'
        notifier: Any = read(text).credentials["a"].notify[0]
        assert notifier.expect_status == meant


def test_a_base_may_be_named_or_inline() -> None:
    """A credential on top of another needs that one to have no sinks, and an inline provider is one more table."""
    text = PROVIDER + (
        '[credentials.b.provider]\ntype = "ram_role_arn"\nrole_arn = "x"\nbase = "a"\n'
        '[[credentials.b.sinks]]\ntype = "json"\npath = "/b"\n'
        '[credentials.c.provider]\ntype = "ram_role_arn"\nrole_arn = "x"\n'
        'base = { type = "kms_secret", secret_name = "c" }\n'
        '[[credentials.c.sinks]]\ntype = "json"\npath = "/c"\n'
    )
    named: Any = read(text).credentials["b"].provider
    inline: Any = read(text).credentials["c"].provider
    assert named.base == "a"
    assert inline.base == KmsSecret(type="kms_secret", secret_name="c")


def test_an_authority_may_live_on_what_it_rotates() -> None:
    """A role assumed with the key may be the one that rotates the key: only values made of one another are a circle."""
    text = GOOD + (
        '[credentials.a.emergency]\nauthority = "b"\n'
        '[credentials.b.provider]\ntype = "ram_role_arn"\nrole_arn = "x"\nbase = "a"\n'
    )
    assert problems(text) == []


def test_one_file_may_hold_several_targets() -> None:
    """Two profiles of one file, one for each credential, are two targets."""
    sink = '[[credentials.{0}.sinks]]\ntype = "credentials_ini"\npath = "/etc/x"\nprofile = "{0}"\n'
    text = PROVIDER + sink.format("a") + PROVIDER.replace(".a.", ".b.") + sink.format("b")
    assert problems(text) == []


def test_the_result_is_frozen() -> None:
    """Nobody changes the config of another thread: not an attribute, not a table, not an array."""
    settings = read(PROVIDER + 'fields = { access_key_id = "ak" }\n' + SINK)
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.agent.log_level = "debug"  # type: ignore[misc]
    credentials: Any = settings.credentials
    fields: Any = getattr(settings.credentials["a"].provider, "fields")  # noqa: B009
    for table in (credentials, fields):
        with pytest.raises(TypeError):
            table["b"] = None
    assert isinstance(settings.credentials["a"].sinks, tuple)


def test_equal_texts_make_equal_settings() -> None:
    """A reload can tell which credentials changed by comparing."""
    assert read(GOOD) == read(GOOD)
    assert read(GOOD) != read(GOOD.replace("/etc/a.json", "/etc/b.json"))


def test_a_byte_order_mark_is_no_mistake() -> None:
    """Editors on other systems put one there."""
    assert read(b"\xef\xbb\xbf" + GOOD.encode()) == read(GOOD)


class Colour(enum.Enum):
    """Something that built-in settings do not use."""

    RED = "red"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Vendor(ProviderSettings):
    """A third party's settings, with what Python offers."""

    colour: Colour = Colour.RED
    weight: float = 1.0
    level: Annotated[int, msgspec.Meta(ge=1)] = 1
    tags: frozenset[str] = frozenset()
    pauses: list[Duration] = dataclasses.field(default_factory=list)
    pair: tuple[int, str] = (1, "x")
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    anything: Any = None

    def __post_init__(self) -> None:
        """Refuse in a way that no loader expects."""
        if self.weight > 9:
            raise RuntimeError("canary")


VENDOR = Registry(providers={"vendor": lambda: Vendor}, sinks=REGISTRY.sinks)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rude(ProviderSettings):
    """A third party's settings that quote what they were given."""

    colour: str

    def problems(self) -> Iterator[tuple[str, str]]:
        """Refuse every colour, and nothing in particular."""
        yield "colour", f"is {self.colour}"
        yield "", "is not wanted"


def test_a_third_partys_sentences_cannot_garble_a_terminal() -> None:
    """Control characters that a settings class repeats are escaped; an empty key means the whole table."""
    registry = Registry(providers={"rude": lambda: Rude}, sinks=REGISTRY.sinks)
    text = f'[credentials.a.provider]\ntype = "rude"\ncolour = "\\u001b[31mré\\nd"\n{SINK}'
    assert problems(text, registry=registry) == [
        "credentials.a.provider: is not wanted",
        "credentials.a.provider.colour: is \\x1b[31mré\\nd",
    ]


def vendor(lines: str) -> str:
    """Write a config with the third party's provider."""
    return f'[credentials.a.provider]\ntype = "vendor"\n{lines}\n{SINK}'


def test_a_third_partys_settings_convert_like_built_in_ones() -> None:
    """Enums, constrained numbers, sets and free tables arrive as annotated, and frozen."""
    text = vendor(
        'colour = "red"\nweight = 2\nlevel = 3\ntags = ["b"]\npauses = ["1s", "1m"]\npair = [2, "y"]\n'
        'extra = { a = [1, { b = 2 }] }\nanything = [["z"]]'
    )
    got: Any = read(text, registry=VENDOR).credentials["a"].provider
    assert (got.colour, got.weight, got.level, got.tags) == (Colour.RED, 2.0, 3, frozenset({"b"}))
    assert (got.pauses, got.pair, got.anything) == ((1.0, 60.0), (2, "y"), (("z",),))
    assert got.extra == {"a": (1, {"b": 2})}


THIRD_PARTY_MISTAKES = {
    "colour = 1": 'colour: want "red", got 1',
    'weight = "x"': 'weight: want a number, got "x"',
    "weight = 10": f"refused by {Vendor.__module__}.Vendor (RuntimeError)",
    "level = 0": "level: want int >= 1, got 0",
    "tags = 1": "tags: want array, got 1",
    'pair = [1, "x", 2]': "pair: want 2 items, got 3",
}


@pytest.mark.parametrize(("line", "sentence"), THIRD_PARTY_MISTAKES.items())
def test_a_third_partys_mistakes_have_sentences(line: str, sentence: str) -> None:
    """The same care for types that keyturn itself does not use; an exception's text is not repeated."""
    (found,) = problems(vendor(line), registry=VENDOR)
    assert found.removeprefix("credentials.a.provider").lstrip(".: ") == sentence


def test_only_the_types_in_use_are_imported() -> None:
    """A provider that no credential uses costs nothing, and cannot break anything."""
    asked: list[str] = []

    def lazily(name: str, settings: type) -> Any:
        def imported() -> type:
            asked.append(name)
            return settings

        return imported

    registry = Registry(
        providers={"kms_secret": lazily("kms_secret", KmsSecret), "vendor": lazily("vendor", Vendor)},
        sinks=REGISTRY.sinks,
    )
    read(GOOD, registry=registry)
    assert asked == ["kms_secret"]


def test_the_settings_have_the_contracts_defaults() -> None:
    """What a minimal config means."""
    settings: Settings = read(GOOD, environ=ENVIRON)
    credential: CredentialSettings = settings.credentials["a"]
    assert (str(credential.verify), float(credential.verify_timeout)) == ("caller_identity", 60)
    assert credential.max_staleness is None
    assert settings.cloud.sts == "sts.cn-hangzhou.aliyuncs.com"
    assert float(settings.agent.settle) == 2
    assert settings.agent.metrics_listen is None


@pytest.mark.parametrize("text", ["", "x", "5", "1.5s", "1m1h", "9999d", "٣s"])
def test_a_duration_of_the_command_line_is_refused_with_a_sentence(text: str) -> None:
    """Options read durations by the same rule, and get words for their errors too."""
    with pytest.raises(Unfit, match=r"^want "):
        duration(text)

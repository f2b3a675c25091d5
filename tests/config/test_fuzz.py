"""Whatever stands in the file, the answer is settings or a ConfigError."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent.core.errors import ConfigError
from tests.support.settings import read

KEYS = st.sampled_from(
    ["agent", "audit", "cloud", "credentials", "a", "b", "provider", "sinks", "notify", "emergency", "authority",
     "base", "type", "path", "mode", "owner", "group", "write", "variables", "dialect", "profile", "secret_name",
     "fields", "poll_interval", "regions", "region_id", "settle", "metrics_listen", "sts_endpoint", "verify",
     "verify_timeout", "unit", "action", "command", "pickup", "timeout", "expect_status", "url", "role_arn"]
)  # fmt: skip
NAMES = KEYS | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
TYPES = st.sampled_from(
    ["kms_secret", "ram_role_arn", "broken", "odd", "json", "env_file", "credentials_ini", "exec", "http", "systemd"]
)
WORDS = TYPES | st.sampled_from(
    ["/etc/x", "/etc/../x", "${HOME}/x", "${", "30s", "0640", "4777", "off", "a", "b", "host:1", "oss", "access_key_id"]
)
SCALARS = WORDS | NAMES | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
TREES = st.recursive(
    SCALARS, lambda each: st.lists(each, max_size=4) | st.dictionaries(NAMES, each, max_size=6), max_leaves=20
)

TYPED = st.builds(lambda tree, name: {**tree, "type": name}, st.dictionaries(KEYS, TREES, max_size=5), TYPES)
MANY = st.lists(TYPED, max_size=3) | TREES
CREDENTIALS = st.dictionaries(
    st.sampled_from("abc"),
    st.fixed_dictionaries(
        {}, optional={"provider": TYPED | TREES, "sinks": MANY, "notify": MANY, "emergency": TREES, "verify": WORDS}
    ),
    max_size=3,
)
FILES = st.dictionaries(NAMES, TREES, max_size=4) | st.fixed_dictionaries({"credentials": CREDENTIALS})


def toml(tree: Any) -> str:
    """Write a value as inline TOML."""
    if isinstance(tree, dict):
        return "{" + ", ".join(f"{toml(key)} = {toml(part)}" for key, part in tree.items()) + "}"
    if isinstance(tree, list):
        return "[" + ", ".join(map(toml, tree)) + "]"
    if isinstance(tree, str):
        return json.dumps(tree, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(tree).lower()


@settings(max_examples=120)
@given(FILES)
@example({"credentials": {"a": {"sinks": [{"type": "env_file", "path": "/x", "variables": []}]}}})
def test_any_tree_is_settings_or_a_config_error(tree: dict[str, Any]) -> None:
    """No shape of a file, however odd, makes a traceback; every problem is one printable line."""
    text = "\n".join(f"{toml(key)} = {toml(part)}" for key, part in tree.items())
    try:
        read(text)
    except ConfigError as error:
        assert error.problems
        assert all(line.isprintable() and "not valid TOML" not in line for line in error.problems)


@settings(max_examples=150)
@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode(errors="replace")))
@example(b"x = 0x" + b"f" * 100000)
@example(b"x = 1e400")
@example(b"[[a]]\n[a.b]\nc = inf\nd = nan\ne = 0001-01-01T00:00:00+23:59\nf = 07:32:00")
def test_any_text_is_settings_or_a_config_error(text: bytes) -> None:
    """No bytes make a traceback."""
    with contextlib.suppress(ConfigError):
        read(text)

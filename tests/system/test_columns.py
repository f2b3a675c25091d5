"""Text in columns of a terminal."""

import pytest

from agent.system.columns import columns, cut, padded, wrapped


@pytest.mark.parametrize(("text", "width"), {"": 0, "abc": 3, "计费": 4, "e\u0301": 1, "\uff4b": 2, "…": 1}.items())
def test_letters_take_their_columns(text, width):
    """Two for a wide letter, none for an accent."""
    assert columns(text) == width
    assert columns(padded(text, 6)) == 6


def test_what_is_cut_is_marked():
    """And never wider than asked for, also where a wide letter does not fit any more."""
    assert cut("uploader", 8) == "uploader"
    assert cut("uploader", 5) == "uplo…"
    assert cut("计费数据", 6) == "计费…"
    assert cut("计费数据", 4) == "计…"


def test_lines_end_at_blanks_and_between_wide_letters():
    """A path stays whole, so that it can be copied; a comma begins no line; nothing is lost."""
    assert wrapped("one two three", 8, "  ", "") == ["one two", "  three"]
    assert wrapped("see /etc/keyturn/keyturn.toml now", 10) == ["see", "/etc/keyturn/keyturn.toml", "now"]
    assert wrapped("密钥服务没有回答\uff0c请重试", 9) == ["密钥服务", "没有回", "答\uff0c请重", "试"]
    assert wrapped("one two three", None, "    ") == ["    one two three"]
    assert wrapped("", 10, "    ") == ["    "]


@pytest.mark.parametrize("width", range(12, 40, 3))
def test_wrapped_text_fits(width):
    """Whatever the width, for words that are shorter than it."""
    text = "计费-数据库: 密钥服务 (kms) answered 503, 请重试; cafe\u0301 is closed"
    lines = wrapped(text, width, "  ", "")
    assert max(map(columns, lines)) <= width
    assert "".join("".join(lines).split()) == "".join(text.split())

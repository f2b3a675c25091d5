"""Templates: what they may say, what stops them, and that no error repeats a value."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.credential import Credential
from agent.core.errors import SinkError
from agent.core.secret import Secret
from agent.core.settings import FilePath
from agent.sinks.check import inspect
from agent.sinks.formats.template import MAX_TEMPLATE_BYTES, Template, TemplateSettings
from agent.sinks.interface import SinkContext
from agent.sinks.transaction import transaction
from tests.support.sinks import bearer, key, publish, session

KEY = key()
CANARY = "c4n4ry"
WHOLE = "{{ access_key_id }}:{{ access_key_secret }}\n"


def template(directory: Path, text: str | bytes = WHOLE) -> Template:
    """A sink whose template is `directory/app.j2`."""
    source = directory / "app.j2"
    source.write_bytes(text if isinstance(text, bytes) else text.encode())
    settings = TemplateSettings(type="template", path=FilePath(directory / "app.conf"), source=FilePath(source))
    return Template(settings, SinkContext("uploader"))


def render(directory: Path, text: str | bytes, value: Credential = KEY) -> str:
    return template(directory, text).render(b"old", value, 7).decode()


def refusal(directory: Path, text: str | bytes, value: Credential = KEY) -> str:
    with pytest.raises(SinkError) as caught:
        render(directory, text, value)
    shown = caught.value.__cause__ or (None if caught.value.__suppress_context__ else caught.value.__context__)
    assert shown is None, "a traceback would show the cause, and the cause may hold a value"
    return str(caught.value)


def test_a_template_sees_every_part_and_the_names(tmp_path: Path) -> None:
    """The seven variables of the contract."""
    names = ("access_key_id", "access_key_secret", "security_token", "expiration", "credential", "generation")
    text = "|".join(f"{{{{ {name} }}}}" for name in names)
    assert render(tmp_path, text, session()) == (
        "STS.Key000001|secretOf000001|CAISt0ken/of+000001==|2030-01-02T03:04:05Z|uploader|7"
    )
    assert render(tmp_path, "{{ bearer_token }}", bearer()) == "eyJhbGciOi.J9.sig-nature_"


def test_what_is_published_is_the_rendered_text(tmp_path: Path) -> None:
    """The whole file is the template's, old content goes."""
    (tmp_path / "app.conf").write_text("old")
    publish([template(tmp_path)], key(5))
    assert (tmp_path / "app.conf").read_text() == "LTAI5tKey000005:secretOf000005\n"


def test_a_changed_template_is_drift(tmp_path: Path) -> None:
    """It is read at each pass: the next one finds the file out of sync and puts it right."""
    sink = template(tmp_path)
    publish([sink], KEY)
    assert not transaction.survey([sink], KEY, 1).out_of_sync
    template(tmp_path, "id = {{ access_key_id }}\n")
    assert transaction.survey([sink], KEY, 1).out_of_sync
    publish([sink], KEY)
    assert (tmp_path / "app.conf").read_text() == "id = LTAI5tKey000001\n"


@pytest.mark.parametrize("ending", ["", "\n", "\n\n", "\r\n"])
def test_line_endings_are_the_templates(tmp_path: Path, ending: str) -> None:
    """Neither the last line feed nor CRLF is lost."""
    line = "\r\n" if ending == "\r\n" else "\n"
    assert render(tmp_path, f"a{line}{{{{ access_key_id }}}}{ending}") == f"a{line}LTAI5tKey000001{ending}"


@pytest.mark.parametrize(
    "guarded",
    [
        "{% if security_token %}token={{ security_token }}{% else %}none{% endif %}",
        "{% if security_token is defined %}token={{ security_token }}{% else %}none{% endif %}",
        "{{ 'token=' ~ security_token if security_token else 'none' }}",
        "{{ security_token and 'token=' ~ security_token or 'none' }}",
    ],
)
def test_a_part_that_may_be_missing_can_be_asked_for(tmp_path: Path, guarded: str) -> None:
    """One template serves keys and sessions."""
    assert render(tmp_path, "{{ access_key_id }} " + guarded) == "LTAI5tKey000001 none"
    assert render(tmp_path, "{{ access_key_id }} " + guarded, session()).endswith(" token=CAISt0ken/of+000001==")


@pytest.mark.parametrize("use", ["", "|quote", "|tojson", "|b64encode", "|upper", " ~ 'x'", " == ''"])
def test_a_missing_part_is_never_written_as_nothing(tmp_path: Path, use: str) -> None:
    """`token =` with nothing behind it would be half a credential: the error names the line and the part."""
    text = refusal(tmp_path, f"id={{{{ access_key_id }}}}\ntoken={{{{ security_token{use} }}}}\n")
    assert f"{tmp_path}/app.j2 line 2: writes security_token, which a value of kind access_key has not" in text
    assert "put {% if security_token %} around it" in text


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a\n{{ access_key }}", "line 2: names access_key, which there is not"),
        ("{{ access_key_id }}{{ lipsum() }}", "line 1: names lipsum, which there is not"),
        ("a\n{{ access_key_id ", "line 2: is no Jinja2 template"),
        ("{% if access_key_id %}", "line 1: is no Jinja2 template"),
        ("{{ access_key_id|nosuch }}", "line 1: is no Jinja2 template"),
        ("only text\n", "names no part of the value"),
        ("{{ generation }}", "names no part of the value"),
        ("{# {{ access_key_id }} #}", "names no part of the value"),
        ("{% if not access_key_id %}x{% endif %} \n", "renders to nothing"),
        (b"\xff{{ access_key_id }}", "is not UTF-8"),
        ("x" * (MAX_TEMPLATE_BYTES + 1), "is larger than"),
        ("{{ access_key_id }}\n{% include '/etc/passwd' %}", "line 2: fails (TypeError)"),
        ("{{ access_key_id }}\n\n{{ 1 / 0 }}", "line 3: fails (ZeroDivisionError)"),
        ("{{ access_key_id }}{{ '\\ud800' }}", "renders to text that no file can hold"),
        ("{{ access_key_id }}{{ [1, 2]|random }}", "line 1: is no Jinja2 template"),
        ("{{ access_key_id }}" + "{% if 1 %}" * 3000, "cannot be compiled"),
        ("{{ access_key_id }}{{" + "(" * 5000 + "1" + ")" * 5000 + "}}", "cannot be compiled"),
    ],
)  # fmt: skip
def test_what_no_publish_can_use_is_refused_with_its_place(tmp_path: Path, text: str | bytes, why: str) -> None:
    """File and line of the template, the file that it would have become, and what to do."""
    said = refusal(tmp_path, text)
    assert said.startswith(f"{tmp_path}/app.j2") and why in said and f"(the template of {tmp_path}/app.conf); " in said


@pytest.mark.parametrize(
    "leak",
    ["{}[access_key_secret]", "access_key_secret.nope", "access_key_secret|int(access_key_secret)|abs|nope(1)",
     "access_key_secret % 1", "access_key_secret()", "[][access_key_secret]", "access_key_secret + 1",
     "'%d' % access_key_secret", "'{:d}'.format(access_key_secret)"],
)  # fmt: skip
def test_no_error_repeats_a_value(tmp_path: Path, leak: str) -> None:
    """Python's and Jinja2's own texts quote what they stumble over; ours say where it was."""
    value = Credential(CANARY, Secret(CANARY), Secret(CANARY))
    with pytest.raises(SinkError) as caught:
        render(tmp_path, f"{{{{ access_key_id }}}}{{{{ {leak} }}}}", value)
    assert CANARY not in str(caught.value) and caught.value.__cause__ is None
    assert "line 1: " in str(caught.value)


@pytest.mark.parametrize(
    "escape",
    ["access_key_id.__class__", "access_key_id.__class__.__mro__[1].__subclasses__()", "self.__init__.__globals__",
     "range.__globals__", "access_key_id|attr('__class__')", "'{0.__class__}'.format(access_key_id)"],
)  # fmt: skip
def test_the_sandbox_holds(tmp_path: Path, escape: str) -> None:
    """A template reaches nothing of Python's insides."""
    text = f"{{{{ access_key_id }}}}{{{{ {escape} }}}}"
    assert "fails (SecurityError)" in refusal(tmp_path, text) or "fails (UndefinedError)" in refusal(tmp_path, text)


@pytest.mark.parametrize(
    ("endless", "why"),
    [
        ("{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}", "takes more than 10000 turns"),
        ("{% for i in range(999999) %}{% endfor %}", "names a number above 10000"),
        ("{% for i in range(9999 + 9999) %}{% endfor %}", "counts to more than 10000"),
        ("{% for i in range(9999) %}{{ 'x' * 9999 }}{% endfor %}", "renders to more than"),
        ("{% macro m(n) %}{{ m(n) }}{{ m(n) }}{% endmacro %}{{ m(1) }}", "fails (RecursionError)"),
        ("{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}", "turns"),
        ("{{ 9 ** 9 ** 9 }}", "multiplies"),
        ("{{ 'a' * (9999 + 9999) }}", "multiplies"),
        ("{{ '%999999999d'|format(1) }}", "names a number above 10000"),
        ("{{ '{:999999999}'.format(1) }}", "names a number above 10000"),
    ],
)
def test_a_template_ends(tmp_path: Path, endless: str, why: str) -> None:
    """A slip neither holds the agent up nor fills its memory: seconds would already be too long (here: below 20)."""
    begun = time.monotonic()
    assert why in refusal(tmp_path, "{{ access_key_id }}\n" + endless)
    assert time.monotonic() - begun < 20


NASTY = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20).filter(str.isprintable)


@given(NASTY)
def test_quote_and_tojson_hold_any_value(tmp_path_factory: pytest.TempPathFactory, secret: str) -> None:
    """What the filters write, the readers of those formats read back; nothing is escaped for HTML."""
    directory = tmp_path_factory.mktemp("t")
    value = Credential("id", Secret(secret))
    assert json.loads(render(directory, "{{ access_key_secret|tojson }}", value)) == secret
    assert shlex.split(render(directory, "{{ access_key_secret|quote }}", value)) == [secret]
    assert render(directory, "x{{ access_key_secret }}", value) == "x" + secret
    assert json.loads(render(directory, "[{{ access_key_secret|tojson ~ ',' ~ 1 }}]", value)) == [secret, 1]


def test_b64encode_is_for_formats_that_want_it(tmp_path: Path) -> None:
    """Kubernetes manifests, basic authentication."""
    assert render(tmp_path, "{{ (access_key_id ~ ':')|b64encode }}") == "TFRBSTV0S2V5MDAwMDAxOg=="


def test_a_control_character_in_a_value_is_refused_unnamed(tmp_path: Path) -> None:
    """A line feed in a value would be a line of its own in most formats."""
    said = refusal(tmp_path, WHOLE, Credential("id", Secret("a\nb")))
    assert "the access_key_secret holds a character" in said


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_template_that_somebody_else_can_change_is_refused(tmp_path: Path) -> None:
    """It decides where secrets go."""
    sink = template(tmp_path)
    os.chmod(sink.settings.source, 0o666)
    with pytest.raises(SinkError, match="lets others than its owner change it") as caught:
        sink.render(None, KEY, 1)
    assert caught.value.remedy.startswith("chmod go-w ")
    os.chmod(sink.settings.source, 0o600)
    os.chown(sink.settings.source, 65534, 65534)
    with pytest.raises(SinkError, match="it belongs to user"):
        sink.render(None, KEY, 1)


@pytest.mark.parametrize(("make", "why"), [(None, "is missing"), (Path.mkdir, "is no file"), (os.mkfifo, "is no file")])
def test_a_source_that_is_no_file_is_refused(tmp_path: Path, make: object, why: str) -> None:
    """Without waiting for whoever opens the other end of a FIFO."""
    sink = template(tmp_path)
    source = Path(sink.settings.source)
    source.unlink()
    if callable(make):
        make(source)
    with pytest.raises(SinkError, match=why):
        sink.render(None, KEY, 1)


def test_check_reads_the_template_without_a_value(tmp_path: Path) -> None:
    """A template that no publish could use is an error before there is anything to publish."""
    assert [found.level for found in inspect(template(tmp_path))] == ["ok"]
    (finding,) = inspect(template(tmp_path, "a\n{{ acces_key_id }}"))
    assert finding.level == "error" and "line 2: names acces_key_id" in finding.text and finding.remedy
    assert [found.level for found in inspect(template(tmp_path, "{{ security_token }}"))] == ["ok"]


def test_a_template_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    """The publish ends before anything is staged."""
    publish([template(tmp_path)], key(1))
    with pytest.raises(SinkError):
        publish([template(tmp_path, "{{ security_token }}")], key(2))
    assert (tmp_path / "app.conf").read_text() == "LTAI5tKey000001:secretOf000001\n"
    assert sorted(os.listdir(tmp_path)) == ["app.conf", "app.j2"]


def test_the_template_cannot_be_the_file_itself() -> None:
    """Found before anything runs."""
    settings = TemplateSettings(type="template", path=FilePath("/x"), source=FilePath("/x"))
    assert [found for found, _ in settings.problems()] == ["source"]


def test_jinja2_is_loaded_only_where_a_config_uses_a_template() -> None:
    """The daemon's memory is counted."""
    code = "import sys, agent.app.wiring; agent.app.wiring.registry(); from agent import engine; print('jinja2' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_the_template_of_the_documentation_works(tmp_path: Path) -> None:
    """The sample of docs/sinks.md, for a key and for a session."""
    documentation = (Path(__file__).parents[3] / "docs" / "sinks.md").read_text()
    text = documentation.split("```jinja\n")[1].split("```")[0]
    lines = [
        "# made by keyturn for uploader, generation 7",
        'accessKeyId: "LTAI5tKey000001"',
        'accessKeySecret: "secretOf000001"',
    ]
    assert render(tmp_path, text).splitlines() == lines
    assert render(tmp_path, text, session()).splitlines()[3:] == ['securityToken: "CAISt0ken/of+000001=="']

"""`template`: any other format, by a Jinja2 template of the operator's.

The template is read again at each publish, so a change in it shows as drift and is repaired. It decides where secrets
go, so one that somebody besides root and the agent's user can write is refused.

A part that the value lacks is not the empty string: `{% if security_token %}` and `{{ security_token or "none" }}` see it as
false, but a bare `{{ security_token }}` is an error with its line, so that no file with half a credential is ever
published. For the same reason a template that names no part of the value, or renders to nothing, is refused.

The sandbox (`ImmutableSandboxedEnvironment`) keeps a template from Python's internals; it has no loader, so there is no
`include` and no `import`. Limits contain a mistake: on the output, the turns of all loops and macros together, `range`,
and the results of `*` and `**`. They are no defence against an author who means harm, who could write the secrets
anywhere anyhow.

Errors name the line of the template and never quote the value: Jinja2's own texts at run time may do that, so they are
not repeated.

Rejected: Jinja2's `tojson`, which escapes for HTML and turns what is joined to it into HTML too; `autoescape`, which is for
HTML; and rendering in a child process with limits, one at each poll.
"""

from __future__ import annotations

import base64
import json
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import CodeType, TracebackType
from typing import Any, cast

from jinja2 import StrictUndefined, Undefined, meta, nodes
from jinja2 import Template as Compiled
from jinja2.exceptions import TemplateError, TemplateSyntaxError, UndefinedError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from agent.core.credential import PARTS, Credential, part
from agent.core.errors import CredentialFileError, SinkError
from agent.core.settings import FilePath, FileSinkSettings
from agent.sinks.formats.text import unsafe
from agent.sinks.interface import NO_CONTEXT, FileSink, SinkContext
from agent.system import files
from agent.system.oserrors import explain

MAX_TEMPLATE_BYTES = 256 * 1024
MAX_OUTPUT_CHARACTERS = 1024 * 1024
MAX_TURNS = 10_000
"""The turns of all loops and macros in one rendering; a format with ten thousand lines of credentials is a mistake."""

MAX_OPERAND = 10_000
"""The longest text or largest number that `*` or `**` may multiply."""

_WIDTH = re.compile(r"[%{].*[0-9]{5}", re.DOTALL)
"""A width of five digits in a format of either kind (`%` or `{}`)."""

VARIABLES = (*PARTS, "credential", "generation")


@dataclass(frozen=True, kw_only=True)
class TemplateSettings(FileSinkSettings):
    """The settings of `type = "template"`."""

    source: FilePath

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (key, sentence) for what the types cannot rule out."""
        if self.source == self.path:
            yield "source", "is the file that is written; name the template"


class Template(FileSink):
    """A sink that owns its whole file."""

    type_name = "template"
    Settings = TemplateSettings

    def __init__(self, settings: Any, context: SinkContext = NO_CONTEXT) -> None:
        super().__init__(settings, context)
        self._code: tuple[str, CodeType] | None = None
        """The source that was compiled last, and what became of it: ten times the cost of everything else."""

    @property
    def watched(self) -> tuple[str, ...]:
        """Its file, and what it is made of."""
        return (self.path, str(self.settings.source))

    def render(self, present: bytes | None, credential: Credential, generation: int) -> bytes:
        """Fill the template; see `FileSink.render`."""
        source = self._source()
        template = self._compiled(source)
        variables = self._variables(credential, generation)
        try:
            rendered = _joined(template.generate(variables))
        except Exception as error:  # whatever a template makes Python raise
            raise self._failed(error, credential) from None
        if not rendered.strip():
            raise self._refuse(None, "renders to nothing", "write the value into it")
        try:
            return rendered.encode()
        except UnicodeEncodeError:
            raise self._refuse(None, "renders to text that no file can hold", "remove its \\ud800 escapes") from None

    def inspect(self) -> tuple[str, ...]:
        """Read and compile the template; see `FileSink.inspect`.

        Raises:
            SinkError: it cannot be used.
        """
        self._compiled(self._source())
        return ()

    def _source(self) -> str:
        path = self.settings.source
        try:
            return files.read_trusted(path, MAX_TEMPLATE_BYTES).decode()
        except CredentialFileError as error:
            raise SinkError.of(error.as_problem()) from error
        except UnicodeDecodeError:
            raise self._refuse(None, "is not UTF-8", "save it as UTF-8") from None
        except files.TooLargeError:
            raise self._refuse(None, f"is larger than {MAX_TEMPLATE_BYTES} bytes", "name the template") from None
        except files.NotRegularError:
            raise self._refuse(None, "is no file", "name the template") from None
        except FileNotFoundError:
            raise self._refuse(None, "is missing", "put it there, or correct `source`") from None
        except OSError as error:
            why = explain(error, path)
            raise self._refuse(None, why.text, why.remedy) from error

    def _compiled(self, source: str) -> Compiled:
        """Parse, check and compile the template.

        Raises:
            SinkError: it is no template, uses an unknown name, or uses no part of the value.
        """
        environment = _environment(source)  # a new one each time: it counts the turns of one rendering
        if self._code is None or self._code[0] != source:
            self._code = (source, self._compile(environment, source))
        return environment.template_class.from_code(environment, self._code[1], dict(environment.globals))

    def _compile(self, environment: _Sandbox, source: str) -> CodeType:
        try:
            tree = environment.parse(source)
            self._refuse_large(tree)
            self._refuse_names(tree)
            _count_turns(tree)
            return environment.compile(tree, filename=str(self.settings.source))
        except TemplateSyntaxError as error:
            raise self._refuse(error.lineno, f"is no Jinja2 template: {error.message}", "mend that line") from None
        except (TemplateError, RecursionError, ValueError, SyntaxError, MemoryError) as error:
            raise self._refuse(None, f"cannot be compiled ({type(error).__name__})", "make it simpler") from None

    def _refuse_names(self, tree: nodes.Template) -> None:
        named = meta.find_undeclared_variables(tree) - {"range"}
        for node in tree.find_all(nodes.Name):
            if node.name in named and node.name not in VARIABLES:
                known = ", ".join(VARIABLES)
                raise self._refuse(node.lineno, f"names {node.name}, which there is not", f"known here: {known}")
        if named.isdisjoint({"access_key_id", "access_key_secret", "security_token", "bearer_token"}):
            raise self._refuse(None, "names no part of the value", "write for example {{ access_key_id }} into it")

    def _refuse_large(self, tree: nodes.Template) -> None:
        """Refuse large numbers, since the output of a width in a format cannot be limited otherwise."""
        for node in tree.find_all(nodes.Const):
            number = isinstance(node.value, int | float) and abs(node.value) > MAX_OPERAND
            if number or (isinstance(node.value, str) and _WIDTH.search(node.value)):
                raise self._refuse(node.lineno, f"names a number above {MAX_OPERAND}", "write it outside of {{ }}")

    def _variables(self, credential: Credential, generation: int) -> dict[str, Any]:
        values: dict[str, Any] = {name: self._part(credential, name) for name in PARTS}
        return {**values, "credential": self.context.credential, "generation": generation}

    def _part(self, credential: Credential, name: str) -> str | Undefined:
        value = part(credential, name)
        if value is None:
            return _Missing(hint=name, name=name, exc=_MissingPartError)
        if not value.isprintable():
            raise unsafe(self, name)
        return value

    def _failed(self, error: Exception, credential: Credential) -> SinkError:
        """Return the error with the line where the template failed, and with its text only where that is ours."""
        line = _line(error.__traceback__, str(self.settings.source))
        if isinstance(error, _MissingPartError):
            return self._refuse(
                line,
                f"writes {error.message}, which a value of kind {credential.kind} has not",
                f"put {{% if {error.message} %}} around it",
            )
        if isinstance(error, _TooMuchError):
            return self._refuse(line, str(error), "make it simpler")
        return self._refuse(line, f"fails ({type(error).__name__})", "mend that line")

    def _refuse(self, line: int | None, what: str, remedy: str) -> SinkError:
        where = f" line {line}" if line else ""
        return SinkError(f"{self.settings.source}{where}: {what} (the template of {self.path})", remedy)


class _MissingPartError(UndefinedError):
    """The template writes a part that the value lacks; its message is the part's name."""


class _TooMuchError(ValueError):
    """The template does more than any credentials file needs."""


class _Missing(StrictUndefined):
    """A part that this value lacks: it tests as false and undefined, and writing it is an error."""

    def __bool__(self) -> bool:  # type: ignore[override]
        return False


class _Sandbox(ImmutableSandboxedEnvironment):
    """The sandbox, with limits on multiplication and on turns."""

    intercepted_binops = frozenset({"*", "**"})
    turns = 0

    def take_turn(self) -> str:
        """Count one turn of a loop or macro; the compiled template calls this."""
        self.turns += 1
        if self.turns > MAX_TURNS:
            raise _TooMuchError(f"takes more than {MAX_TURNS} turns in its loops and macros")
        return ""

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Apply an operator, and refuse a multiplication that would fill the memory."""
        for operand in (left, right):
            size = abs(operand) if isinstance(operand, int | float) else len(operand)
            if size > (64 if operator == "**" else MAX_OPERAND):
                raise _TooMuchError(f"multiplies what is too large for `{operator}`")
        return super().call_binop(context, operator, left, right)


def _environment(source: str) -> _Sandbox:
    environment = _Sandbox(
        undefined=StrictUndefined,
        autoescape=False,
        optimized=False,  # nothing is computed before the limits are in place
        keep_trailing_newline=True,
        newline_sequence="\r\n" if "\r\n" in source else "\n",
        cache_size=0,
    )
    environment.globals = {"range": _bounded_range}
    filters: Mapping[str, Callable[[Any], str]] = {"tojson": _to_json, "quote": _quote, "b64encode": _b64encode}
    environment.filters.update(filters)
    del environment.filters["random"]  # the file would never be in sync
    return environment


def _count_turns(tree: nodes.Template) -> None:
    """Insert a count at the head of each loop and macro."""
    for node in tree.find_all((nodes.For, nodes.Macro, nodes.CallBlock)):
        call = nodes.Call(nodes.EnvironmentAttribute("take_turn"), [], [], None, None)
        cast(nodes.For, node).body.insert(0, nodes.Output([call], lineno=node.lineno).set_lineno(node.lineno))


def _bounded_range(*bounds: int) -> range:
    numbers = range(*bounds)
    if len(numbers) > MAX_TURNS:
        raise _TooMuchError(f"counts to more than {MAX_TURNS}")
    return numbers


def _to_json(value: Any) -> str:
    return json.dumps(value, default=_text)


def _quote(value: Any) -> str:
    """Quote a value for a shell, as one word."""
    return shlex.quote(_text(value))


def _b64encode(value: Any) -> str:
    return base64.b64encode(_text(value).encode()).decode()


def _text(value: Any) -> str:
    """Return a value as text; a missing part raises here."""
    return str(value)


def _joined(chunks: Iterator[str]) -> str:
    taken: list[str] = []
    left = MAX_OUTPUT_CHARACTERS
    for chunk in chunks:
        left -= len(chunk)
        if left < 0:
            raise _TooMuchError(f"renders to more than {MAX_OUTPUT_CHARACTERS} characters")
        taken.append(chunk)
    return "".join(taken)


def _line(trace: TracebackType | None, filename: str) -> int | None:
    """Return the template's line in which an error arose; Jinja2 puts frames with the template's name into tracebacks."""
    line = None
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == filename:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line

"""The answers that `keyturn init` needs: from its options, and on a terminal from a few questions."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from agent.core.errors import UsageError
from agent.core.text import escaped, nearest
from agent.first_config.document import fitting
from agent.first_config.readers import READERS
from agent.first_config.sources import SOURCES, Ask
from agent.first_config.wish import quoted

CREDENTIAL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""As the config has it; here it also makes the names of files."""
DEFAULT_PROVIDER = "kms_secret"
REGION_VARIABLES = ("ALIBABA_CLOUD_REGION_ID", "ALIBABA_CLOUD_REGION")


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What is known so far; empty, or None, for what is not.

    Attributes:
        values: keys of the provider's table -> their values.
        unit: None where nobody said that there is none.
        user: None where nobody said who it is.
    """

    provider: str = ""
    values: Mapping[str, str] = field(default_factory=dict)
    reader: str = ""
    credential: str = ""
    unit: str | None = None
    user: str | None = None
    region: str = ""

    def missing(self) -> list[Ask]:
        """Return what the provider has to be told and was not."""
        return [ask for ask in SOURCES[self.provider].asks if not self.values.get(ask.key)]

    def name(self) -> str:
        """Return the name of the credential: the given one, or one made of the unit, the secret, the user or the role."""
        if self.credential:
            return self.credential
        named = [self.values.get(key, "") for key in ("secret_name", "ram_user_name", "role_name", "role_arn")]
        stem = re.split(r"[.@]", self.unit)[0] if self.unit else re.split(r"[/:]", next(filter(None, named), ""))[-1]
        plain = re.sub(r"[^A-Za-z0-9._-]+", "-", re.sub(r"[-_](ak|secret)$", "", stem)).strip("-._")
        return plain[:64] or "app"

    def command(self) -> str:
        """Return the command that gives these answers, with examples for what is missing."""
        words = ["keyturn", "init"]
        if self.provider != DEFAULT_PROVIDER:
            words += ["--provider", self.provider]
        values = {**self.values, **{ask.key: ask.example for ask in self.missing()}}
        for key, value in values.items():
            words += ["--secret", value] if key == "secret_name" else ["--set", f"{key}={value}"]
        options = {"--for": self.reader, "--unit": self.unit, "--user": self.user, "--credential": self.credential}
        return quoted(*words, *(word for option, value in options.items() if value for word in (option, value)))


def complete(given: Answers, region: str) -> Answers:
    """Return answers with the defaults for what was not given.

    Raises:
        UsageError: something has no default, or does not go together; the text has a command that can be typed.
    """
    known = replace(given, provider=given.provider or DEFAULT_PROVIDER, region=given.region or region)
    lacking = known.missing()
    if lacking:
        what = " and ".join(f"`{ask.key}` ({ask.question.lower()})" for ask in lacking)
        raise UsageError(f"{known.provider} needs {what}", f"such as: {known.command()}")
    known = replace(known, reader=known.reader or fitting(known.provider)[0])
    if known.reader not in fitting(known.provider):
        fit = fitting(known.provider)
        raise UsageError(
            f"--for {known.reader} cannot hold what {known.provider} gives",
            f"it fits into {' or '.join(fit)}: {replace(known, reader=fit[0]).command()}",
        )
    return known


def known_values(provider: str, secret: str | None, pairs: list[str]) -> tuple[str, dict[str, str]]:
    """Return the provider's type, and the keys of its table, of `--secret NAME` and `--set KEY=VALUE`.

    Raises:
        UsageError: one of them is none, or is for another type.
    """
    values: dict[str, str] = {}
    if secret is not None:
        if provider not in ("", DEFAULT_PROVIDER):
            raise UsageError(
                f"--secret is the name of a secret in KMS, and {provider} has none", "leave one of the two out"
            )
        provider, values["secret_name"] = DEFAULT_PROVIDER, secret
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not sign or not re.fullmatch(r"[a-z0-9_]+", key) or not value:
            raise UsageError(
                f"--set {pair}: want KEY=VALUE", "such as --set poll_interval=30s; the keys: docs/config.md"
            )
        if key == "type":
            raise UsageError("--set type=…: the type has an option of its own", f"--provider {value}")
        values[key] = value
    return provider, values


class Questions:
    """A terminal to ask. Questions go to standard error, so that standard output can be a pipe."""

    def __init__(self) -> None:
        self.asked = 0

    def line(self, question: str, default: str = "", example: str = "") -> str:
        """Return an answer; the default where it is empty, again where there is none.

        Raises:
            UsageError: the input has ended.
            KeyboardInterrupt: Ctrl-C.
        """
        hint = f" [{default}]" if default else f" (such as {example})" if example else ""
        while True:
            answer = self._read(f"{question}{hint}: ")
            if answer or default or not example:
                return answer or default

    def choice(self, question: str, offered: Mapping[str, str], default: str) -> str:
        """Return one of the names that are offered, by its number or its name."""
        names, width = list(offered), max(map(len, offered))
        for number, (name, title) in enumerate(offered.items(), 1):
            self.say(f"{number:>4}  {name:<{width}}  {title}")
        while True:
            answer = self.line(question, default)
            if answer in offered:
                return answer
            if answer.isascii() and answer.isdigit() and 0 < int(answer) <= len(names):
                return names[int(answer) - 1]
            near = nearest(answer, names)
            self.say(
                f"want a number from 1 to {len(names)}, or a name; {f'did you mean {near}?' if near else 'Enter: ' + default}"
            )

    def say(self, text: str) -> None:
        """Print a line."""
        print(escaped(text), file=sys.stderr, flush=True)

    def _read(self, prompt: str) -> str:
        self.asked += 1
        print(escaped(prompt), end="", file=sys.stderr, flush=True)
        try:
            line = sys.stdin.readline()
        except KeyboardInterrupt:
            self.say("")
            raise
        if not line.endswith("\n"):
            self.say("")
            raise UsageError(
                "the questions were not all answered, and nothing was written",
                "answer them, or give options: keyturn init --help",
            )
        return line.strip()


def asked(given: Answers, before: Answers, questions: Questions, region: str) -> Answers:
    """Return the answers that a person gives for what was not given; those of the last round are the defaults."""
    provider = given.provider or questions.choice(
        "Where does the key come from?",
        {name: source.title for name, source in SOURCES.items()},
        before.provider or DEFAULT_PROVIDER,
    )
    values = dict(given.values)
    for ask in replace(given, provider=provider).missing():
        values[ask.key] = questions.line(ask.question, before.values.get(ask.key, ""), ask.example)
    fit = fitting(provider)
    reader = given.reader or questions.choice(
        "How does the application read it?",
        {name: READERS[name].title for name in fit},
        before.reader if before.reader in fit else fit[0],
    )
    unit = (
        given.unit
        if given.unit is not None
        else questions.line("systemd unit of the application (Enter: none)", before.unit or "")
    )
    known = replace(given, provider=provider, values=values, reader=reader, unit=unit)
    return replace(known, region=given.region or questions.line("Region", before.region or region))

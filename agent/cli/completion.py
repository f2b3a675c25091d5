"""`keyturn completion` and `keyturn man`: made from the parser of the very program that is installed."""

from __future__ import annotations

import argparse
from pathlib import Path

from agent import __version__
from agent.cli.command_line import parser
from agent.cli.manual.commands import read
from agent.core.errors import EXIT_DONE, KeyturnError, UsageError
from agent.core.text import nearest


def completion(options: argparse.Namespace) -> int:
    """Print the completion of a shell."""
    from agent.cli.manual.completions import SHELLS

    print(SHELLS[options.shell](read(parser())), end="")
    return EXIT_DONE


def man(options: argparse.Namespace) -> int:
    """Print a man page, or write all of them below a directory, where `man` looks for them."""
    from agent.cli.manual.pages import pages

    made = pages(read(parser()), __version__)
    if options.output is not None:
        _write(made, Path(options.output) / "man1")
        return EXIT_DONE
    name = "-".join(["keyturn", *[word for word in options.words if word != "keyturn"][:1]])
    if f"{name}.1" not in made:
        near = nearest(name, [page.removesuffix(".1") for page in made])
        raise UsageError(f"there is no man page {name}(1)", f"did you mean {near}?" if near else "see `keyturn help`")
    print(made[f"{name}.1"], end="")
    return EXIT_DONE


def _write(made: dict[str, str], directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in made.items():
            (directory / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise KeyturnError(f"{directory}: {error.strerror}", "name a directory that you may write to") from None
    print(f"{len(made)} pages in {directory}")

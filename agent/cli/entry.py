"""Where a process begins: `keyturn credential` goes a short way, everything else through agent/cli/main.py.

Sixty workers may each run that command once a minute, and the parser alone takes as long as the interpreter. So its usual form
is recognised here; whatever is not plain, or does not end with a document, is done again by the whole command, which has the
sentences for it. What is imported here, and by agent/cli/credential.py, is all that it pays for: bench/start.py shows the price.
"""

import sys


def entry() -> None:
    """Run the command line of this process, and exit with its code."""
    plain = _plain(sys.argv[1:])
    if plain is not None:
        from agent.cli import credential

        if credential.printed(*plain):
            sys.exit(0)
    from agent.cli.main import entry as whole

    whole()


def _plain(arguments: list[str]) -> tuple[str | None, str, str] | None:
    """Return config, name and format of a plain `[--config PATH] credential NAME [--format F]`; None for anything else."""
    config, form, rest = None, "external", list(arguments)
    if rest[:1] == ["--config"] and len(rest) > 1:
        config, rest = rest[1], rest[2:]
    if rest[:1] != ["credential"] or len(rest) not in (2, 4):
        return None
    name = rest[1]
    if len(rest) == 4:
        if rest[2] != "--format" or rest[3] not in ("external", "ossfs", "uri", "env"):
            return None
        form = rest[3]
    return None if name.startswith("-") or not "".join(arguments).isascii() else (config, name, form)

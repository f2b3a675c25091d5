"""`keyturn`: one command is run, and the one `except` turns an error into a sentence and an exit code.

A command's module is imported only when it is run; which one that is stands in agent/cli/command_line.py. What is imported
here, every command pays for, so it is little: tests/cli/test_start.py holds a list of it, bench/start.py shows the price.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import gc
import io
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stdout

from agent.cli.command_line import imported, understood
from agent.cli.parsers import DEFAULT_CONFIG
from agent.core.errors import EXIT_CONFIG, EXIT_FAILED, EXIT_USAGE, ConfigError, KeyturnError
from agent.core.text import escaped
from agent.system import core_dumps
from agent.system.file_names import names_in_utf8
from agent.system.journal_stream import journal_prefix
from agent.system.terminal import choose_colour

_OF_THE_MACHINE = frozenset({errno.EMFILE, errno.ENFILE, errno.EFBIG, errno.EDQUOT, errno.ENOMEM, errno.EROFS})
"""What runs out without anybody's fault."""


def entry() -> None:
    """Run the command line of this process, and exit with its code."""
    names_in_utf8()
    sys.exit(main(sys.argv[1:]))


def main(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    core_dumps.forbid()  # first of all: any command may come to hold a secret
    _open_streams()
    # It may shut out others, never us: a directory that nobody can enter helps nobody.
    os.umask(os.umask(0o077) & 0o077)
    try:
        options = understood(arguments)
    except BrokenPipeError:  # `keyturn --version --verbose | head -n 1`
        _give_up_stdout()
        return EXIT_FAILED
    choose_colour(options.color)
    if options.config is None:
        options.config = os.environ.get("KEYTURN_CONFIG") or DEFAULT_CONFIG
    options.words_typed = arguments
    return _perform(options)


def _open_streams() -> None:
    """Make the standard streams such that printing never raises for want of a letter, nor reading for a stray byte.

    Under a locale like zh_CN.GBK a name in the config may have letters that the terminal's encoding has not: an escape in
    the output is a blemish, the lost outcome of an emergency is not.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started us
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w"))
    for stream, errors in ((sys.stdout, "backslashreplace"), (sys.stderr, "backslashreplace"), (sys.stdin, "replace")):
        if isinstance(stream, io.TextIOWrapper):
            with contextlib.suppress(io.UnsupportedOperation):  # standard input that was read from already
                stream.reconfigure(errors=errors)


def _perform(options: argparse.Namespace) -> int:
    """Run a command; turn whatever it raises into one sentence and an exit code."""
    try:
        options.out = sys.stdout
        # Only the command's JSON goes to standard output: a provider's library that prints must not garble it.
        with redirect_stdout(sys.stderr) if getattr(options, "json", False) else nullcontext():
            code = _run(options)
        sys.stdout.flush()
        return code
    except ConfigError as error:
        _complain_of_config(error, with_lines=not getattr(options, "json", False))
        return EXIT_CONFIG
    except KeyturnError as error:
        _complain(f"keyturn: {_with_command(error, options)}")
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        _give_up_stdout()
        return EXIT_FAILED
    except OSError as error:
        return _failed_by_system(error)
    except Exception as error:
        return _fault(error)


def _with_command(error: KeyturnError, options: argparse.Namespace) -> str:
    if error.exit_code != EXIT_USAGE:
        return str(error)
    from agent.cli.mistakes import with_command

    return with_command(str(error), options.words_typed, options)


def _run(options: argparse.Namespace) -> int:
    gc.disable()  # what is imported is no garbage, and to look for some took 2 of 31 ms that `status` adds to an interpreter
    try:
        run = imported(options.run)
    finally:
        gc.enable()
    return int(run(options))


def _failed_by_system(error: OSError) -> int:
    """Say what the machine did not give; what nobody foresaw is a fault of ours."""
    from agent.system.oserrors import explain

    if error.errno in _OF_THE_MACHINE:
        why = explain(error, str(error.filename or "."))
        _complain(f"keyturn: {error.filename or 'this command'}: {why.text}; {why.remedy}")
    elif error.errno in (errno.ENOSPC, errno.EIO):
        _give_up_stdout()
        _complain(f"keyturn: the output cannot be written: {error.strerror}")
    else:
        return _fault(error)
    return EXIT_FAILED


def _complain(text: str) -> None:
    """Print on standard error what went wrong, in one line; in systemd's journal it has the priority of an error.

    Its times are told in the zone of whoever reads them; the journal, like every log, has them in UTC.
    """
    prefix = journal_prefix("error", os.environ, sys.stderr)
    if not prefix:
        from agent.system.local_time import local_times  # once something is wrong

        text = local_times(text)
    print(prefix + escaped(text), file=sys.stderr)


def _complain_of_config(error: ConfigError, *, with_lines: bool) -> None:
    """Print each problem of a config in one line, and below it the line of the file that it is about.

    That is for people: the journal would take each line for an event of its own, and programs are told line and column.
    """
    with_lines = with_lines and not journal_prefix("error", os.environ, sys.stderr)
    excerpts = [one.excerpt if with_lines else "" for one in error.mistakes] or [""] * len(error.problems)
    for problem, excerpt in zip(error.problems, excerpts, strict=True):
        _complain(problem)
        if excerpt:
            print(excerpt, file=sys.stderr)
    if error.summary:
        _complain(error.summary)


def _give_up_stdout() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter complains at its end


def _fault(error: Exception) -> int:
    from agent.logs.log import describe, frames

    _complain(f"keyturn: a fault of keyturn itself ({describe(error)} at {frames(error)}); please report it")
    return EXIT_FAILED

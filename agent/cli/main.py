"""`keyturn`: the parser, and the one `except` that turns an error into a sentence and an exit code.

Each command's module is imported only when it is run. Why argparse: docs/adr/0011.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import io
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext, redirect_stdout
from importlib import import_module

from agent import __version__
from agent.core.errors import EXIT_CONFIG, EXIT_FAILED, ConfigError, KeyturnError
from agent.system import core_dumps
from agent.system.file_names import names_in_utf8
from agent.system.signals import keep

DEFAULT_CONFIG = "/etc/keyturn/keyturn.toml"
_DAEMON = "agent.cli.run:run"
_OF_THE_MACHINE = frozenset({errno.EMFILE, errno.ENFILE, errno.EFBIG, errno.EDQUOT, errno.ENOMEM, errno.EROFS})
"""What runs out without anybody's fault."""
_Maker = Callable[[str, str, str, str], argparse.ArgumentParser]


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
    options = parser().parse_args(arguments)
    if options.run == _DAEMON:  # a reload or refresh must not end it while it starts, and its imports take long
        keep(signal.SIGHUP, signal.SIGUSR1)
    if options.config is None:
        options.config = os.environ.get("KEYTURN_CONFIG") or DEFAULT_CONFIG
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
        module, _colon, function = options.run.partition(":")
        options.out = sys.stdout
        # Only the command's JSON goes to standard output: a provider's library that prints must not garble it.
        with redirect_stdout(sys.stderr) if getattr(options, "json", False) else nullcontext():
            code = int(getattr(import_module(module), function)(options))
        sys.stdout.flush()
        return code
    except ConfigError as error:
        for problem in error.problems:
            _complain(problem)
        return EXIT_CONFIG
    except KeyturnError as error:
        _complain(f"keyturn: {error}")
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
    """Print on standard error what went wrong, in one line; in systemd's journal it has the priority of an error."""
    from agent.cli.output import one_line
    from agent.logs.setup import journal_prefix

    print(journal_prefix("error", os.environ, sys.stderr) + one_line(text), file=sys.stderr)


def _give_up_stdout() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter complains at its end


def _fault(error: Exception) -> int:
    from agent.logs.log import describe, frames

    _complain(f"keyturn: a fault of keyturn itself ({describe(error)} at {frames(error)}); please report it")
    return EXIT_FAILED


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    top = _parser(
        argparse.ArgumentParser,
        prog="keyturn",
        description="Keeps the AccessKeys and STS sessions of applications on Alibaba Cloud VMs fresh, proven and audited.",
        epilog="example: keyturn --config /etc/keyturn/keyturn.toml check",
    )
    top.add_argument("--config", metavar="PATH", help=f"default: $KEYTURN_CONFIG, then {DEFAULT_CONFIG}")
    top.add_argument("--version", action="version", version=f"keyturn {__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, place: str, summary: str, example: str) -> argparse.ArgumentParser:
        made = _parser(commands.add_parser, name, help=summary, description=summary, epilog=f"example: {example}")
        made.set_defaults(run=place)
        return made

    command("run", _DAEMON, "the daemon, in the foreground", "keyturn run")
    _work_commands(command)
    _look_commands(command)
    _endpoint_commands(command)
    _setup_command(command)
    _emulator_commands(command)
    return top


def _work_commands(command: _Maker) -> None:
    once = command(
        "once",
        "agent.cli.once:once",
        "one refresh of every (or each named) credential: fetch, verify, publish, notify, exit",
        "keyturn once --retry-for 20s uploader",
    )
    once.add_argument("--retry-for", metavar="20s", default="20s", help="how long temporary failures are tried again")
    once.add_argument("names", metavar="NAME", nargs="*")
    refresh = command(
        "refresh",
        "agent.cli.refresh:refresh",
        "the running daemon refreshes now; waits for the outcome and prints it",
        "keyturn refresh uploader",
    )
    refresh.add_argument("names", metavar="NAME", nargs="*")
    refresh.add_argument("--json", action="store_true", help="print one JSON object")
    rotate = command(
        "rotate",
        "agent.cli.rotate:rotate",
        "the emergency: rotate at the source, follow the new key to every dependent, cut the old one off",
        'keyturn rotate uploader --reason "key on a public repo" --disable-old',
    )
    rotate.add_argument("name", metavar="NAME")
    rotate.add_argument("--reason", metavar="TEXT", required=True, help="goes into the audit")
    rotate.add_argument("--leaked", metavar="ACCESS_KEY_ID", help="which key leaked")
    rotate.add_argument("--disable-old", action="store_true", help="set the old key inactive and see it refused")
    rotate.add_argument("--force", action="store_true", help="disable it even if somebody is left behind on it")
    rotate.add_argument("--yes", action="store_true", help="do not ask on a terminal")
    rotate.add_argument("--json", action="store_true", help="print one JSON object at the end")


def _look_commands(command: _Maker) -> None:
    check = command(
        "check",
        "agent.cli.check:check",
        "say, line by line, whether config, files, keys, endpoints, credentials and dependents are in order",
        "keyturn check --offline",
    )
    check.add_argument("--offline", action="store_true", help="use no network")
    check.add_argument("--json", action="store_true", help="print one JSON object")
    status = command(
        "status",
        "agent.cli.status:status",
        "what each credential is, how fresh, when next, what is owed",
        "keyturn status",
    )
    status.add_argument("--json", action="store_true", help="print one JSON object")
    status.add_argument(
        "--fail-if-refused", action="store_true", help="exit 78 where the daemon refused the config of its last reload"
    )
    status.add_argument("--watch", action="store_true", help="show it again every two seconds, until Ctrl-C")
    credential = command(
        "credential",
        "agent.cli.credential:credential",
        "the value now in use, for the SDKs' process_command and ossfs's credential_process",
        "keyturn credential uploader --format external",
    )
    credential.add_argument("name", metavar="NAME")
    credential.add_argument(
        "--format", choices=("external", "ossfs", "uri", "env"), default="external", help="default: external"
    )
    audit = command(
        "audit", "agent.cli.audit:audit_show", "read the audit log, or prove that it is whole", "keyturn audit verify"
    )
    actions = audit.add_subparsers(title="actions", metavar="ACTION", required=True)
    show = _parser(
        actions.add_parser,
        "show",
        help="read it",
        epilog="example: keyturn audit show --credential uploader --since 2d",
    )
    show.set_defaults(run="agent.cli.audit:audit_show")
    show.add_argument("--credential", metavar="N")
    show.add_argument("--since", metavar="T", help="a time like 2026-11-22T03:00:00Z, or how long ago, like 2d")
    show.add_argument("--json", action="store_true", help="print the records, one JSON object a line")
    verify = _parser(
        actions.add_parser, "verify", help="prove that it is whole", epilog="example: keyturn audit verify"
    )
    verify.set_defaults(run="agent.cli.audit:audit_verify")
    verify.add_argument("--from-seq", metavar="N", type=int, default=1, help="older records were archived elsewhere")
    verify.add_argument("--json", action="store_true", help="print one JSON object")


def _endpoint_commands(command: _Maker) -> None:
    endpoint = command(
        "endpoint",
        "agent.cli.endpoint:tokens",
        "the tokens of the credentials_uri sinks: see them, or replace them",
        "keyturn endpoint rotate-token uploader",
    )
    actions = endpoint.add_subparsers(title="actions", metavar="ACTION", required=True)
    tokens = _parser(
        actions.add_parser,
        "tokens",
        help="which there are, when they die, when each was used last; never a token itself",
        epilog="example: keyturn endpoint tokens uploader",
    )
    tokens.set_defaults(run="agent.cli.endpoint:tokens")
    tokens.add_argument("names", metavar="NAME", nargs="*")
    tokens.add_argument("--json", action="store_true", help="print one JSON object")
    rotate = _parser(
        actions.add_parser,
        "rotate-token",
        help="write a new one into the env file; the old one goes on for a while",
        epilog="example: keyturn endpoint rotate-token uploader --overlap 0s --reason 'a process listing leaked'",
    )
    rotate.set_defaults(run="agent.cli.endpoint:rotate_token")
    rotate.add_argument("name", metavar="NAME")
    rotate.add_argument("--path", metavar="FILE", help="only that of this env file; default: all of the credential")
    rotate.add_argument(
        "--overlap", metavar="24h", default="24h", help="until the old one dies (default: 24h; 0s: at once)"
    )
    rotate.add_argument("--reason", metavar="TEXT", default="", help="goes into the audit")
    rotate.add_argument("--json", action="store_true", help="print one JSON object")


def _setup_command(command: _Maker) -> None:
    setup = command(
        "systemd-setup",
        "agent.cli.systemd_setup:systemd_setup",
        "what keyturn.service needs on this host, from the config: a drop-in and a polkit rule",
        "keyturn systemd-setup --install",
    )
    action = setup.add_mutually_exclusive_group()
    action.add_argument("--print", action="store_true", help="show it and write nothing (the default)")
    action.add_argument("--install", action="store_true", help="write what differs, remove what is not needed any more")
    action.add_argument(
        "--check-command", action="store_true", help="print the command that runs `keyturn check` as the service"
    )
    setup.add_argument("--root", metavar="DIR", default="/", help="write below DIR, for images; default: /")


def _emulator_commands(command: _Maker) -> None:
    demo = command(
        "demo",
        "agent.cli.demo:demo",
        "the main job on a bare machine, against the bundled cloud emulator",
        "keyturn demo",
    )
    demo.add_argument(
        "--directory", metavar="DIR", help="keep its files there; default: a temporary one, removed at the end"
    )
    emulator = command(
        "emulator",
        "agent.cli.demo:emulator",
        "the cloud emulator alone, for one's own tests; writes its CA, a ClientKey and a matching config into DIR",
        "keyturn emulator --directory /tmp/cloud",
    )
    emulator.add_argument("--directory", metavar="DIR", required=True)
    emulator.add_argument("--port", type=int, default=0, help="default: a free one")
    emulator.add_argument("--rotate-every", metavar="10s", help="have KMS rotate the secret by itself")
    emulator.add_argument(
        "--propagation-delay", metavar="TIME", default="1s", help="until a new key works (default: 1s)"
    )
    emulator.add_argument(
        "--old-key-life",
        metavar="TIME",
        default="48h",
        help="how long the key before lives on, and KMS refuses another rotation (default: 48h, as KMS does)",
    )


def _parser(make: Callable[..., argparse.ArgumentParser], *args: str, **keywords: str) -> argparse.ArgumentParser:
    return make(*args, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **keywords)

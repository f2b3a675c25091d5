"""`keyturn emulator` and `keyturn demo`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from agent.cli.option_types import seconds
from agent.core.errors import KeyturnError, UsageError


def demo(options: argparse.Namespace) -> int:
    """Show the main job and an emergency, seen from outside, or set their world up to play with; return the exit code."""
    from agent.demo.story import perform

    return perform(Path(options.directory) if options.directory else None, keep=options.keep)


def emulator(options: argparse.Namespace) -> int:
    """Run the cloud emulator until interrupted, or give an order to one that runs; return the exit code."""
    if options.order:
        return _order(options)
    from providers.emulator.command import PortError, run

    try:
        return run(
            Path(options.directory),
            port=options.port,
            propagation_delay_s=seconds(options.propagation_delay, "--propagation-delay"),
            old_key_life_s=seconds(options.old_key_life, "--old-key-life"),
            rotate_every_s=seconds(options.rotate_every, "--rotate-every") if options.rotate_every else None,
            out=sys.stdout,
        )
    except PortError as error:
        raise KeyturnError(
            f"nothing can listen on 127.0.0.1:{error.port}: {error.strerror}",
            f"see who holds it (ss -ltnp 'sport = :{error.port}'), or give --port another one (0: any that is free)",
        ) from None
    except BrokenPipeError:
        raise
    except OSError as error:
        raise KeyturnError(
            f"{error.filename or options.directory}: {error.strerror}", "name a directory that this user may write"
        ) from None


def _order(options: argparse.Namespace) -> int:
    """Send an order to the emulator that works in a directory, and print its answer."""
    from agent.demo.order import order
    from providers.emulator.directory import standing_port

    directory = Path(options.directory).absolute()
    try:
        body = json.loads(options.body)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise UsageError(f"--body {options.body}: want a JSON object", """such as --body '{"secret": "uploader-ak"}'""")
    answer = order(directory, f"127.0.0.1:{standing_port(directory) or 0}", options.order, body)
    print(json.dumps(answer, indent=2))
    return 0

"""`keyturn run`: the daemon, in the foreground."""

from __future__ import annotations

import argparse
import os
import signal

from agent.system.signals import keep


def run(options: argparse.Namespace) -> int:
    """Run the daemon until it is told to stop; return the exit code."""
    # A reload or a refresh must not end it while it starts, and its imports take long.
    keep(signal.SIGHUP, signal.SIGUSR1)
    from agent.app import wiring
    from agent.app.daemon import Daemon
    from agent.logs.setup import set_up
    from agent.system.systemd_notify import ServiceManager

    settings = wiring.load_settings(options.config, os.environ)
    set_up(settings.agent.log_level, settings.agent.log_format, os.environ)
    application = wiring.open_application(settings, options.config, os.environ)
    try:
        Daemon(application, ServiceManager(os.environ)).run()
    finally:
        application.close()
    return 0

"""The emulator as a program: it makes an account, writes its directory, and serves until it is told to stop."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import TextIO

from .cloud import Cloud
from .directory import write_directory
from .metadata import MetadataServer
from .server import EmulatorServer

__all__ = ["run"]

_STOP = {signal.SIGINT, signal.SIGTERM}


def run(
    directory: Path,
    *,
    port: int = 0,
    propagation_delay_s: float = 1.0,
    old_key_life_s: float = 10.0,
    rotate_every_s: float | None = None,
    secret: str = "uploader-ak",
    user: str = "uploader",
    out: TextIO,
) -> int:
    """Serve the cloud and an instance's metadata on 127.0.0.1 until SIGINT or SIGTERM.

    To be called in the main thread, before other threads are started.
    The account is new each time; CA and ClientKey of the directory are kept. A line on `out` says when it is ready.
    With `rotate_every_s`, the secret is rotated that often, as KMS does on its schedule.

    Returns:
        0, the exit code.

    Raises:
        OSError: when the port is taken or the directory cannot be written.
    """
    # The two signals are blocked and waited for: without a handler there is no race with locks of the main thread.
    blocked_before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOP)
    stop = threading.Event()
    try:
        cloud = Cloud(old_key_life_s=old_key_life_s)
        cloud.add_ram_secret(secret, user=user)
        with EmulatorServer(cloud, directory, port=port) as server, MetadataServer(cloud) as metadata:
            files = write_directory(
                directory,
                cloud,
                server.endpoint,
                endpoints=server.endpoints,
                metadata_url=metadata.url,
                secret=secret,
                user=user,
            )
            cloud.propagation_delay_s = propagation_delay_s  # the keys so far have been there for ages
            if rotate_every_s is not None:
                _rotate_in_background(cloud, secret, rotate_every_s, stop)
            print(f"emulator ready on https://{server.endpoint}, files in {files.directory}", file=out, flush=True)
            signal.sigwait(_STOP)
    finally:
        stop.set()
        while signal.sigpending() & _STOP:  # a second Ctrl-C while we were stopping
            signal.sigwait(_STOP)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked_before)
    return 0


def _rotate_in_background(cloud: Cloud, secret: str, every_s: float, stop: threading.Event) -> None:
    def keep_rotating() -> None:
        while not stop.wait(every_s):
            cloud.rotate(secret)

    threading.Thread(target=keep_rotating, name="kms-schedule", daemon=True).start()

"""The emulator as a program: it makes an account, writes its directory, and serves until it is told to stop."""

from __future__ import annotations

import errno
import shlex
import signal
import threading
from pathlib import Path
from typing import TextIO

from .cloud import Cloud
from .directory import Files, standing_port, write_directory
from .metadata import MetadataServer
from .server import EmulatorServer

__all__ = ["PortError", "run"]

_STOP = {signal.SIGINT, signal.SIGTERM}


class PortError(OSError):
    """The error that nothing can listen on a port."""

    def __init__(self, error: OSError, port: int) -> None:
        super().__init__(error.errno, error.strerror)
        self.port = port


def run(
    directory: Path,
    *,
    port: int | None = None,
    propagation_delay_s: float = 1.0,
    old_key_life_s: float = 10.0,
    rotate_every_s: float | None = None,
    secret: str = "uploader-ak",
    user: str = "uploader",
    out: TextIO,
) -> int:
    """Serve the cloud and an instance's metadata on 127.0.0.1 until SIGINT or SIGTERM.

    To be called in the main thread, before other threads are started.
    The account is new each time, and so are its AccessKeys. CA, ClientKey, admin token and edited configs of the directory are
    kept, and the port that its config names unless another is given (0: any free one). A line on `out` says when it is ready;
    how to rotate comes after it.
    With `rotate_every_s`, the secret is rotated that often, as KMS does on its schedule.

    Returns:
        0, the exit code.

    Raises:
        PortError: when the port cannot be had.
        OSError: when the directory cannot be written.
    """
    # The two signals are blocked and waited for: without a handler there is no race with locks of the main thread.
    blocked_before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOP)
    stop = threading.Event()
    try:
        cloud = Cloud(old_key_life_s=old_key_life_s)
        cloud.add_ram_secret(secret, user=user)
        standing = standing_port(directory)
        with (
            _server(cloud, directory, (standing or 0) if port is None else port) as server,
            MetadataServer(cloud) as metadata,
        ):
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
            print(_greeting(server, files, standing, secret), file=out, flush=True)
            signal.sigwait(_STOP)
    finally:
        stop.set()
        while signal.sigpending() & _STOP:  # a second Ctrl-C while we were stopping
            signal.sigwait(_STOP)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked_before)
    return 0


def _server(cloud: Cloud, directory: Path, port: int) -> EmulatorServer:
    try:
        return EmulatorServer(cloud, directory, port=port)
    except OSError as error:
        if error.errno in (errno.EADDRINUSE, errno.EADDRNOTAVAIL) or (
            error.filename is None and error.errno == errno.EACCES
        ):
            raise PortError(error, port) from error
        raise


def _greeting(server: EmulatorServer, files: Files, standing: int | None, secret: str) -> str:
    """Return what is said at the start: that it is ready, what was kept, and commands for the admin API that can be pasted."""
    lines = [f"emulator ready on https://{server.endpoint}, files in {files.directory}"]
    for config in files.kept:
        stale = f"; it names port {standing}, and the emulator is on {server.port}" if standing != server.port else ""
        if config == files.examples.config:
            stale += "; what it names of the metadata service and the RSA key pair is of an earlier start"
        lines.append(f"{config} was edited, and is kept as it stands{stale}")
    options = shlex.join(["--noproxy", "*", "--cacert", str(files.ca), "-H", f"@{files.admin_header}"])
    order = shlex.quote(f'{{"secret": "{secret}"}}')
    for what, route in (("to rotate now", "rotate"), ("to restrict the present key as leaked", "restrict")):
        lines.append(f"{what}:\n  curl {options} -d {order} https://{server.endpoint}/_emulator/{route}")
    return "\n".join(lines)


def _rotate_in_background(cloud: Cloud, secret: str, every_s: float, stop: threading.Event) -> None:
    def keep_rotating() -> None:
        while not stop.wait(every_s):
            cloud.rotate(secret)

    threading.Thread(target=keep_rotating, name="kms-schedule", daemon=True).start()

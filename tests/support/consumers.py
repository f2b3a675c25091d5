"""Consumers: the stock official SDKs, in processes of their own, at work with what keyturn has written.

`Consumers` runs one call per process, since the SDK reads the environment when it is imported: forks of a process that
has loaded whatever is dear. `Busy` is a program that signs all the time and reads its env file again
when it is told. `UriServer` serves a file as a credentials URI.
"""

from __future__ import annotations

import argparse
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PATIENCE_S = 60.0


def read_env(path: Path) -> dict[str, str]:
    """The variables of an env file, as systemd takes plain lines."""
    lines = path.read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


# -- in the tests' process ----------------------------------------------------------------------------


class Consumers:
    """Starts SDK programs, each in a fresh environment."""

    def __init__(self, ca_file: Path, home: Path) -> None:
        """Start the process that they are forked from.

        Args:
            ca_file: whom they trust besides the system's store.
            home: a directory without any profile.
        """
        self._ca_file, self._home = str(ca_file), str(home)
        self._process = _python("serve", stdin=subprocess.PIPE)

    def identity(self, endpoint: str, environ: Mapping[str, str]) -> str:
        """Who STS says that a program is which finds its key by the SDK's default chain, in this environment."""
        return self._ask({"endpoint": endpoint, "environ": {**QUIET, "HOME": self._home, **environ}})

    def identity_of_bearer(self, endpoint: str, token: str) -> str:
        """Who STS says that the bearer of a token is."""
        return self._ask({"endpoint": endpoint, "environ": {**QUIET, "HOME": self._home}, "bearer": token})

    def _ask(self, job: Mapping[str, Any]) -> str:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps({**job, "ca": self._ca_file}) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        assert "arn" in answer, answer
        return str(answer["arn"])

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


QUIET = {
    "NO_PROXY": "127.0.0.1",
    "ALIBABA_CLOUD_ECS_METADATA_DISABLED": "true",
}
"""What every consumer has in its environment: no machine but this one is asked."""


class Busy:
    """A program that signs a GetCallerIdentity every twentieth of a second with what its env file said last."""

    def __init__(self, env_file: Path, pid_file: Path, endpoint: str, ca_file: Path) -> None:
        """Start it; it waits for its file."""
        self._said: dict[str, Any] | None = None
        options = ["--env", env_file, "--pid-file", pid_file, "--endpoint", endpoint, "--ca", ca_file]
        self._process = _python("busy", *map(str, options))
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def stop(self) -> dict[str, Any]:
        """End it; `sent`, `errors` (code -> how many) and `keys`, in the order of their first use."""
        self._process.terminate()
        said, _ = self._process.communicate(timeout=PATIENCE_S)
        return dict(json.loads(said))

    def kill(self) -> None:
        """End it, whatever it does."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


def _python(*arguments: str, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, __file__, *arguments],
        stdin=stdin,
        stdout=subprocess.PIPE,
        text=True,
        env={"PATH": os.environ["PATH"], **QUIET},
    )


class UriServer:
    """A credentials URI that hands out a file as it is, as a web server would the `json` sink."""

    def __init__(self, path: Path) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = path.read_bytes()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def __enter__(self) -> UriServer:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


# -- in the consumers' own processes ------------------------------------------------------------------


def client(endpoint: str, ca: str, **identity: Any) -> Any:
    """The stock STS client."""
    from alibabacloud_sts20150401.client import Client
    from alibabacloud_tea_openapi.models import Config

    return Client(Config(endpoint=endpoint, ca=ca, **identity))


def play(job: Mapping[str, Any]) -> dict[str, str]:
    """Be one consumer; what reads the environment when it is imported is imported once more when it is right."""
    os.environ.clear()
    os.environ.update(job["environ"])
    for name in [name for name in sys.modules if name.startswith("alibabacloud_credentials")]:
        del sys.modules[name]
    try:
        if "bearer" in job:
            identity: dict[str, Any] = {"bearer_token": job["bearer"]}
        else:
            from alibabacloud_credentials.client import Client as Credentials

            identity = {"credential": Credentials()}
        reply = client(job["endpoint"], job["ca"], **identity).get_caller_identity()
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}
    return {"arn": reply.body.arn}


def serve() -> None:
    """Fork a consumer for each line on standard input."""
    import alibabacloud_sts20150401.client  # noqa: F401  # dear, and all that is dear comes with it
    import cryptography.hazmat.primitives.serialization  # noqa: F401

    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            print(json.dumps(play(json.loads(line))), flush=True)
            os._exit(0)
        os.waitpid(child, 0)


def busy(options: argparse.Namespace) -> None:
    """Sign, read again on SIGHUP, and say at the end what came of it."""
    ours = {signal.SIGHUP, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, ours)  # before the pid file is there, so that none is lost
    options.pid_file.write_text(f"{os.getpid()}\n")
    print("ready", flush=True)
    sts, sent, errors, keys = None, 0, {}, []
    while True:
        got = signal.sigtimedwait(ours, 0.05)
        if got is not None and got.si_signo == signal.SIGTERM:
            break
        if got is not None:
            found = read_env(options.env)
            key_id, secret = found["ALIBABA_CLOUD_ACCESS_KEY_ID"], found["ALIBABA_CLOUD_ACCESS_KEY_SECRET"]
            token = found.get("ALIBABA_CLOUD_SECURITY_TOKEN")  # which an AccessKey has not
            identity = {"access_key_id": key_id, "access_key_secret": secret} | (
                {"security_token": token} if token else {}
            )
            sts = client(options.endpoint, options.ca, **identity)
            keys.append(key_id)
        if sts is not None:
            sent += 1
            try:
                sts.get_caller_identity()
            except Exception as error:
                code = str(getattr(error, "code", "") or type(error).__name__)
                errors[code] = errors.get(code, 0) + 1
    print(json.dumps({"sent": sent, "errors": errors, "keys": keys}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("serve")
    one = commands.add_parser("busy")
    one.add_argument("--env", type=Path, required=True)
    one.add_argument("--pid-file", type=Path, required=True)
    one.add_argument("--endpoint", required=True)
    one.add_argument("--ca", required=True)
    options = parser.parse_args()
    serve() if options.command == "serve" else busy(options)


if __name__ == "__main__":
    main()

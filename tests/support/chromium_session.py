"""One tab of a real Chromium that is driven and listened to: what it asks for, what its console says, what a script sees.

By the DevTools protocol over a pipe (`--remote-debugging-pipe`: JSON messages with a zero byte behind each, on the file
descriptors 3 and 4), so that it needs neither a port nor a library.
"""

from __future__ import annotations

import base64
import contextlib
import json
import select
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any, Self

from tests.support.chromium import PATIENCE_S, PROGRAM

COMPLAINTS = ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled")


class Tab:
    """A tab, for as long as the `with` block lasts. `asked` are the addresses that it asked for, `complaints` its console."""

    def __init__(self, directory: Path, *, dark: bool = False) -> None:
        self.asked: list[str] = []
        self.complaints: list[str] = []
        self.loads = 0
        self._profile, self._dark = directory / "tab-profile", dark
        self._number, self._unread, self._session = 0, b"", ""

    def __enter__(self) -> Self:
        argv = [
            PROGRAM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
            "--no-first-run", "--disable-background-networking", f"--user-data-dir={self._profile}", "--remote-debugging-pipe",
        ]  # fmt: skip
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", 'exec "$@" 3<&0 4>&1', "sh", *argv],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0,
        )  # fmt: skip
        assert self._process.stdin is not None and self._process.stdout is not None
        self._out, self._in = self._process.stdin, self._process.stdout
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.call(f"{domain}.enable")
        scheme = {"name": "prefers-color-scheme", "value": "dark" if self._dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        return self

    def __exit__(self, *_error: object) -> None:
        with contextlib.suppress(OSError):
            self._session = ""
            self.call("Browser.close")
        self._process.wait(PATIENCE_S)
        self._in.close()
        self._out.close()

    def resize(self, width: int, height: int = 800, *, scale: float = 1, mobile: bool = False) -> None:
        """Have the tab that size, in CSS pixels."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=mobile
        )

    def go(self, address: str) -> None:
        """Open a page, and wait until it has loaded."""
        before = self.loads
        self.call("Page.navigate", url=address)
        self.wait_for_load(before)

    def wait_for_load(self, before: int) -> None:
        """Wait until the tab has loaded more pages than that."""
        ends = time.monotonic() + PATIENCE_S
        while self.loads <= before:
            self._heed(self._hear(ends))

    def ask(self, script: str) -> Any:
        """Return what an expression is worth in the page. The page's policy does not hold for it."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def kinds(self) -> Counter[str]:
        """Return how many things of each kind a screen reader is told of: "table", "rowheader", "cell", and so on."""
        nodes = self.call("Accessibility.getFullAXTree")["nodes"]
        return Counter(node["role"]["value"] for node in nodes if not node["ignored"])

    def picture(self) -> bytes:
        """Return the tab as it looks now: a PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        whole = json.dumps(message).encode() + b"\0"
        while whole:
            whole = whole[self._out.write(whole) or 0 :]
        ends = time.monotonic() + PATIENCE_S
        while True:
            said = self._hear(ends)
            if said.get("id") == self._number:
                assert "error" not in said, said
                return dict(said["result"])
            self._heed(said)

    def _hear(self, ends: float) -> dict[str, Any]:
        while b"\0" not in self._unread:
            ready, _, _ = select.select([self._in], [], [], max(0.0, ends - time.monotonic()))
            assert ready, "Chromium says nothing"
            piece = self._in.read(1 << 16)
            if not piece:
                raise BrokenPipeError("Chromium is gone")
            self._unread += piece
        first, _zero, self._unread = self._unread.partition(b"\0")
        return dict(json.loads(first))

    def _heed(self, said: dict[str, Any]) -> None:
        method = said.get("method", "")
        if method == "Page.loadEventFired":
            self.loads += 1
        elif method == "Network.requestWillBeSent":
            self.asked.append(said["params"]["request"]["url"])
        elif method in COMPLAINTS:
            self.complaints.append(json.dumps(said["params"]))

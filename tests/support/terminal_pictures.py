"""Pictures of commands on a terminal of 80 columns, for the docs: real commands, on a VM of the tests, as SVG.

    .venv/bin/python -m tests.support.terminal_pictures docs/pictures [NAME...]

makes them anew (`SCENES` has their names). A picture is text in the order in which it is read, so it can be searched, copied,
and compared by a reviewer; each run of letters is given its width, so that columns stand below each other in whatever font.
"""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path

from agent.system.columns import columns
from tests.support.processes import KEYTURN, Zygote, eventually
from tests.support.vm import Vm, make_template

COLUMNS = 80
LETTER, LINE, SIZE, MARGIN = 8.4, 20, 14, 16
GROUND, INK = "#0d1117", "#e6edf3"
INKS = {"32": "#7ee787", "31": "#ff7b72", "33": "#e3b341", "2": "#8b949e"}
"""Colours of the palette (agent/system/terminal.py) on a dark ground; each has a contrast of 5 to 1 at least."""
BOLD = "1"
_ESCAPE = re.compile(r"\x1b\[([0-9;]*)([A-Za-z])")
FONTS = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', 'Noto Sans Mono CJK SC', monospace"


def on_a_terminal(command: Sequence[str], environ: Mapping[str, str], width: int = COLUMNS) -> str:
    """Return what a command writes on a terminal of its own, with its escapes."""
    ours, theirs = pty.openpty()
    size = {"TERM": "xterm-256color", "COLUMNS": str(width), "LINES": "50", "TZ": "Asia/Shanghai"}
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, env={**environ, **size}, cwd="/"
    )
    os.close(theirs)
    written = b""
    while True:
        try:
            read = os.read(ours, 65536)
        except OSError:  # EIO: the other end is closed
            break
        written += read
    os.close(ours)
    process.wait()
    return written.decode()


def settled(written: str) -> list[str]:
    """Return the lines that stay on the screen: of one that was erased, what came last."""
    return [line.rpartition("\r\x1b[K")[2].rstrip("\r") for line in written.split("\n")]


def svg(lines: Sequence[str], title: str, width: int = COLUMNS) -> str:
    """Return a picture of lines with colours.

    Args:
        lines: what stands on the screen, with SGR escapes.
        title: for readers who cannot see it.
        width: columns; a longer line goes on in the next one, as a terminal has it.
    """
    rows = [row for line in lines for row in _rows(line, width)]
    height = 2 * MARGIN + LINE * len(rows)
    wide = 2 * MARGIN + LETTER * width
    texts = [
        f'<text x="{MARGIN + LETTER * at:.1f}" y="{MARGIN + LINE * number + SIZE}" textLength="{LETTER * columns(text):.1f}"'
        f'{_style(mood)} xml:space="preserve">{escape(text)}</text>'
        for number, row in enumerate(rows)
        for at, text, mood in row
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide:.0f} {height}" width="{wide:.0f}" role="img">\n'
        f"<title>{escape(title)}</title>\n"
        f'<rect width="100%" height="100%" rx="8" fill="{GROUND}"/>\n'
        f'<g font-family="{FONTS}" font-size="{SIZE}" fill="{INK}">\n' + "\n".join(texts) + "\n</g></svg>\n"
    )


def _style(mood: str) -> str:
    return (' font-weight="bold"' if mood == BOLD else "") + (f' fill="{INKS[mood]}"' if mood in INKS else "")


Row = list[tuple[int, str, str]]


def _rows(line: str, width: int) -> Iterator[Row]:
    """Yield the rows of a line: runs of one colour, each with its column. Narrow and wide letters are runs of their own."""
    row: Row = []
    at = 0
    for text, mood in _runs(line):
        for piece in re.findall(r"[\x20-\x7e]+|[^\x20-\x7e]+", text):
            while piece:
                room = next((end for end in range(len(piece), 0, -1) if at + columns(piece[:end]) <= width), 0)
                if room and piece[:room].strip():
                    row.append((at, piece[:room], mood))
                at, piece = at + columns(piece[:room]), piece[room:]
                if piece:
                    yield row
                    row, at = [], 0
    yield row


def _runs(line: str) -> Iterator[tuple[str, str]]:
    begin, mood = 0, ""
    for found in _ESCAPE.finditer(line):
        yield line[begin : found.start()], mood
        begin, mood = found.end(), (found[1] if found[1] != "0" else "") if found[2] == "m" else mood
    yield line[begin:], mood


MAY = (
    "kms:RotateSecret", "kms:DescribeSecret", "ram:UpdateAccessKey", "ram:ListAccessKeys", "ram:GetAccessKeyLastUsed",
)  # fmt: skip


class Studio:
    """A VM whose credentials fare differently, and the camera."""

    def __init__(self, vm: Vm) -> None:
        self.vm = vm
        for name in ("reporter", "ledger"):
            vm.cloud.add_ram_secret(f"{name}-ak", user=name)
        vm.cloud.add_user("ops", *MAY)
        operator = vm.cloud.add_access_key("ops")
        for part, text in (("id", operator.access_key_id), ("secret", operator.access_key_secret)):
            path = vm.directory / f"authority_{part}"
            path.touch(mode=0o600)
            path.write_text(text)
        authority = "[credentials.uploader.emergency.authority]\n" + 'type = "access_key"\n'
        for part in ("id", "secret"):
            authority += f'access_key_{part}_from_file_path = "{vm.directory}/authority_{part}"\n'
        vm.configure(
            vm.credential("uploader", notify=vm.hook(["/bin/true"], "uploader") + authority),
            vm.credential(
                "reporter", secret="reporter-ak", notify=vm.hook(["/bin/false"], "reporter", 'retry_for = "10m"')
            ),
            vm.credential("billing", secret="billing-ak"),
            vm.credential("ledger", secret="ledger-ak", notify=vm.hook(["/bin/true"], "ledger")),
        )
        vm.daemon().ready()
        eventually(
            lambda: {one["state"] for one in vm.status()["credentials"].values()} == {"fresh", "pending", "failing"}
        )

    def shot(self, *arguments: str) -> list[str]:
        """Return the screen behind a command, with the line that was typed."""
        written = on_a_terminal([*KEYTURN, "--config", str(self.vm.config), *arguments], self.vm.environ)
        for place, stands_for in ((self.vm.app, "/srv/app"), (self.vm.directory, "/etc/keyturn")):
            written = written.replace(str(place), stands_for)
        typed = " ".join(f'"{one}"' if " " in one else one for one in arguments)
        return [f"\x1b[{BOLD}m$ keyturn {typed}\x1b[0m", *settled(written.rstrip())]


def ending(screen: list[str], lines: int) -> list[str]:
    """Return the line that was typed, and the last ones of what came of it."""
    return [screen[0], f"... {len(screen) - lines - 1} lines that are ok or much like these", *screen[-lines:]]


SCENES: dict[str, Callable[[Studio], list[str]]] = {
    "status": lambda studio: studio.shot("status"),
    "status-name": lambda studio: studio.shot("status", "uploader"),
    "check": lambda studio: ending(studio.shot("check", "--offline"), 16),
    "refresh": lambda studio: studio.shot("refresh"),
    "plan": lambda studio: studio.shot("plan", "uploader"),
    "rotate": lambda studio: studio.shot(
        "rotate", "uploader", "--reason", "key on a public repo", "--disable-old", "--yes"
    ),
    "audit-show": lambda studio: studio.shot("audit", "show", "--tail", "12"),
}
"""Name of a picture -> how its screen comes about; in this order, each behind those before it."""


def main(arguments: Sequence[str]) -> int:
    """Make the pictures that are named, or all."""
    into, names = Path(arguments[0]), arguments[1:] or list(SCENES)
    with tempfile.TemporaryDirectory(prefix="k") as directory:
        place, template, zygote = Path(directory), Path(directory) / "template", Zygote()
        template.mkdir()
        vm = Vm(place / "demo", make_template(template), zygote)
        try:
            studio = Studio(vm)
            for name, scene in SCENES.items():
                screen = scene(studio)
                if name in names:
                    (into / f"{name}.svg").write_text(
                        svg(screen, f"keyturn {name.replace('-', ' ')}"), encoding="utf-8"
                    )
        finally:
            vm.close()
            zygote.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

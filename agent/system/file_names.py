"""File names are bytes, and the config is UTF-8: its names are written in UTF-8, whatever the locale says.

Python encodes every name that it hands to the kernel (paths, arguments and environment of commands) in the locale's
encoding. In a shell with zh_CN.GB18030, as older servers have it, the same config would then name other files than it does
for the service, and the secret would be published where nobody reads it. Only Python's UTF-8 mode changes that, and only
the start of the interpreter can choose it, so the program is started once more.

Rejected: to encode each path where it is used: one that is forgotten is written to the wrong place without a word.
"""

from __future__ import annotations

import io
import os
import sys


def names_in_utf8() -> None:
    """Start this program again in UTF-8 mode where the locale would choose how names are written.

    What it says to people and is told by them stays in the locale's encoding. Call it before anything else.
    """
    if sys.getfilesystemencoding() != "utf-8":
        with open("/proc/self/cmdline", "rb") as given:
            arguments = given.read().split(b"\0")[1:-1]  # byte for byte
        program = os.fsencode(sys.executable)
        os.execv(program, [program, b"-X", b"utf8", *arguments])
    if "utf8" in sys._xoptions:
        import locale

        for stream in (sys.stdin, sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(encoding=locale.getencoding(), errors="backslashreplace")


def typed_text(argument: str) -> str:
    """Return an argument that is no name of a file as it was typed: in UTF-8, or else in the encoding of the locale."""
    if argument.isascii() or not any("\udc80" <= letter <= "\udcff" for letter in argument):
        return argument
    import locale

    return os.fsencode(argument).decode(locale.getencoding(), "replace")

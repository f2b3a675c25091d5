"""How this keyturn is called in a shell."""

from __future__ import annotations

import os
import shlex
import shutil
import sys


def shell_name() -> str:
    """Return `keyturn` where that name leads to this program, else its path, quoted: a command that can be pasted."""
    own = os.path.join(sys.prefix, "bin", "keyturn")
    found = shutil.which("keyturn")
    if not os.path.exists(own) or (found is not None and os.path.samefile(found, own)):
        return "keyturn"
    return shlex.quote(own)

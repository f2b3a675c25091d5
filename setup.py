"""What the wheel carries besides code: pyproject.toml cannot take files from outside a package."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

CARRIED = {
    "requirements/runtime.lock": "runtime.lock",
    "keyturn.example.toml": "keyturn.example.toml",
    "systemd": "systemd",
}
"""A file or folder of the checkout, and its name in agent/data of what is installed."""


class BuildWithData(build_py):
    """Copies them where agent/app/lock.py, and who installed without a checkout, find them (docs/install.md)."""

    def run(self) -> None:
        """Build as ever, then copy."""
        super().run()
        for origin, name in () if self.editable_mode else CARRIED.items():
            for file in _files(Path(origin)):
                made = Path(self.build_lib, "agent", "data", name, *file.relative_to(origin).parts)
                made.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, made)


def _files(origin: Path) -> list[Path]:
    """Return the files of a folder, or the file itself."""
    return sorted(one for one in origin.rglob("*") if one.is_file()) if origin.is_dir() else [origin]


setup(cmdclass={"build_py": BuildWithData})

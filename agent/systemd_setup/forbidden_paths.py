"""The directories that no service may write, because their content decides what root runs or trusts.

Decisions. The directory is judged, not the file: ReadWritePaths= and BindPaths= open a directory with everything below
it, and the capabilities for sinks of other users are good for all of it. A separate directory below /etc, /run, /srv or
/var is fine; so is /srv itself, from which root runs nothing. In a home, which matters to one user alone, only .ssh is
refused, and the home itself gets a warning; root's home is refused, and a directory in it gets a warning. This holds
without capabilities too: the next sink of the config may bring them, and a directory of root's is useless without them.
Rejected: only warning, since nobody reads the output of `--install` in a script.
"""

from __future__ import annotations

import fnmatch
import os
from pathlib import PurePosixPath

from agent.core.problem import Problem

_ITSELF = "/ /dev /etc /etc/keyturn /home /opt /root /run /run/user /var /var/cache /var/lib /var/local /var/spool"
ITSELF = frozenset(_ITSELF.split())
"""Directories that are refused, while one below them may be fine."""

_WHOLE = (
    "/bin /boot /efi /lib /lib32 /lib64 /libx32 /proc /sbin /sys /usr "
    "/etc/alternatives /etc/apt /etc/binfmt.d /etc/cron* /etc/dbus-1 /etc/default /etc/dhcp /etc/dnf /etc/dpkg "
    "/etc/environment.d /etc/grub.d /etc/init.d /etc/initramfs-tools /etc/kernel /etc/ld.so.conf.d /etc/logrotate.d "
    "/etc/modprobe.d /etc/modules-load.d /etc/network /etc/NetworkManager /etc/pam.d /etc/polkit-1 /etc/profile.d "
    "/etc/rc*.d /etc/rc.d /etc/rpm /etc/security /etc/selinux /etc/skel /etc/ssh /etc/sudoers.d /etc/sysconfig "
    "/etc/sysctl.d /etc/systemd /etc/sysusers.d /etc/tmpfiles.d /etc/udev /etc/X11 /etc/xdg /etc/yum* "
    "/run/dbus /run/credentials /run/polkit-1 /run/systemd /run/udev /run/tmpfiles.d "
    "/root/.config /root/.gnupg /root/.local /root/.ssh /root/bin "
    "/var/cache/apt /var/lib/dpkg /var/lib/polkit-1 /var/lib/rpm /var/lib/systemd /var/lib/dnf /var/spool/cron "
    "/var/spool/anacron /var/spool/at"
)
WHOLE = tuple(_WHOLE.split())
"""Directories that are refused with everything below; patterns of fnmatch, one component each."""


def write_problem(directory: str, own: str) -> Problem | None:
    """Return why the service may not write in a directory; None where it may.

    Args:
        directory: as the config names it; the target of its links is judged too.
        own: the name of a separate directory, for the remedy.
    """
    for each in _names_of(directory):
        if _is_refused(each):
            leads = "" if each == str(PurePosixPath(directory)) else f", which is {each},"
            return Problem(
                f"{directory}{leads} is not for a service to write: what lies in it and below it decides what root runs",
                f"put it into a directory of its own, such as /etc/{own}, and correct the path in the config",
            )
    return None


def write_risk(directory: str) -> Problem | None:
    """Return what is unwise about a directory that the service may write; None for nothing."""
    for each in _names_of(directory):
        path = PurePosixPath(each)
        if path.is_relative_to("/root"):
            return Problem(f"the service may write all of {each}, in root's home", "keep nothing there that root runs")
        if path.parent in (PurePosixPath("/home"), PurePosixPath("/run/user")):
            return Problem(
                f"the service may write all of the home {each}, what its user runs at a login included",
                f"put the file into a directory of its own, such as {each}/.aliyun",
            )
    return None


def _names_of(directory: str) -> tuple[str, ...]:
    """Return the path as written, and the one to which its links lead on this machine."""
    return tuple(dict.fromkeys((str(PurePosixPath(directory)), os.path.realpath(directory))))


def _is_refused(directory: str) -> bool:
    path = PurePosixPath("/" + directory.lstrip("/"))
    return str(path) in ITSELF or ".ssh" in path.parts or any(_is_in(path, PurePosixPath(each)) for each in WHOLE)


def _is_in(path: PurePosixPath, whole: PurePosixPath) -> bool:
    if len(path.parts) < len(whole.parts):
        return False
    return all(fnmatch.fnmatchcase(mine, theirs) for mine, theirs in zip(path.parts, whole.parts, strict=False))

"""What a refused command says to type is typed, and does what was wanted: no remedy leads back to where it was given."""

from __future__ import annotations

import re
import shlex

from tests.support.vm import Done, Vm


def typed(vm: Vm, refused: Done) -> list[str]:
    """The arguments of the command in the remedy."""
    (command,) = re.findall(r"`(keyturn [^`]+)`", refused.stderr)
    words = shlex.split(command)
    assert words[:3] == ["keyturn", "--config", str(vm.config)], "as it is typed, with the config of this command"
    return words[3:]


def test_once_beside_a_daemon_names_the_command_that_does_the_same(vm: Vm) -> None:
    """Which the daemon then does, for the same credentials."""
    vm.configure(vm.credential())
    daemon = vm.daemon().ready()
    for names in ([], ["uploader"]):
        refused = vm.keyturn("once", *names)
        assert refused.returncode == 1 and f"pid {daemon.pid}" in refused.stderr
        remedy = typed(vm, refused)
        assert remedy == ["refresh", *names]
        done = vm.keyturn(*remedy)
        assert (done.returncode, done.stdout.split(":")[0]) == (0, "uploader"), done

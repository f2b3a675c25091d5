"""`write = "in_place"` and what it is for: a single file that a container has mounted by itself."""

from __future__ import annotations

from pathlib import Path

from tests.support.mounts import bind_mount, with_mounts
from tests.support.sinks import env, key, leftovers, publish, session


@with_mounts
def test_a_container_with_the_file_mounted_sees_a_new_value_only_in_place(tmp_path: Path) -> None:
    """A rename gives the name to another inode, and the mount keeps the old one (consul-template #1436)."""
    path, inside = tmp_path / "app.env", tmp_path / "container.env"
    publish([env(path)], key(1))
    inside.touch()
    bind_mount(inside, path)
    publish([env(path)], key(2), 2)
    assert b"LTAI5tKey000002" in path.read_bytes() and b"LTAI5tKey000001" in inside.read_bytes()


@with_mounts
def test_in_place_reaches_the_container_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    """The same inode gets each value whole, shorter ones too, with owner and mode as configured."""
    path, inside = tmp_path / "app.env", tmp_path / "container.env"
    path.write_text("FOREIGN=a line of somebody else\n")
    path.chmod(0o644)
    inside.touch()
    bind_mount(inside, path)
    inode = path.stat().st_ino
    for number, value in enumerate((key(1), session(2), key(3)), 1):  # a session has a line more than a key
        publish([env(path, write="in_place", mode=0o640)], value, number)
        assert path.stat().st_ino == inside.stat().st_ino == inode
        foreign = b"FOREIGN=a line of somebody else\n"
        assert inside.read_bytes() == path.read_bytes() == foreign + env(path).render(None, value, number)
        assert inside.stat().st_mode & 0o777 == 0o640
    assert leftovers(tmp_path) == []

"""What an env file says besides ours is still said, and what was exported is exported: or the file is refused.

Each file is read by the program that it is for, before and after. The shell's files are those of people: several
assignments on a line, `export` by itself, here-documents, blocks.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.core.credential import Credential
from agent.core.errors import SinkError
from tests.support.env_readers import READERS, by_sh, exported_by_sh
from tests.support.sinks import env, key, publish, session

ID, SECRET, TOKEN = (f"ALIBABA_CLOUD_{name}" for name in ("ACCESS_KEY_ID", "ACCESS_KEY_SECRET", "SECURITY_TOKEN"))
OURS = {ID, SECRET, TOKEN}


def written(path: Path, text: str | bytes, value: Credential, dialect: str) -> bool:
    """Publish over a file, and return whether the sink took it; a refused file stays as it was."""
    content = text.encode() if isinstance(text, str) else text
    path.write_bytes(content)
    path.chmod(0o600)
    try:
        publish([env(path, dialect=dialect)], value)
    except SinkError:
        assert path.read_bytes() == content
        return False
    return True


KEPT = {
    "one on a line": f"export {ID}=old\nexport {SECRET}=olds\nexport REGION=x\n",
    "Bourne's idiom": f"{ID}=old; export {ID}\n{SECRET}=olds;export {SECRET} # both\nREGION=x; export REGION\n",
    "export by itself": f"{ID}=old\n{SECRET}=olds\nREGION=x\nexport {ID} {SECRET} REGION\n",
    "export above": f"export {ID} {SECRET}\n{ID}=old\n{SECRET}=olds\n",
    "the second is exported": f"{ID}=old\nexport {ID}=older\nexport {SECRET}=olds\n",
    "between set -a and set +a": f"set -a\n{ID}=old\n{SECRET}=olds\nREGION=x\nset +a\nLOCAL=y\n",
    "a here-document": f"export {ID}=old\nexport {SECRET}=olds\nTEXT=$(cat <<'END'\nits {ID}=1\nEND\n)\nexport TEXT\n",
    "a use of ours": f"export {ID}=old\nexport {SECRET}=olds\nexport COPY=${ID}\n",
    "a block beside": f"if [ -n x ]; then\nexport REGION=x\nfi\nexport {ID}=old\nexport {SECRET}=olds\n",
    "a function beside": f'f() {{\n  echo "${ID}"\n}}\nexport {ID}=old\nexport {SECRET}=olds\n',
    "a case beside": f"case x in\n(x) export A=1;;\ny) :;;\nesac\nexport {ID}=old\nexport {SECRET}='o\nld'\n",
    "an exec that redirects": f"exec 3>/dev/null\nexport {ID}=old\nexport {SECRET}=olds\n",
    "a return below": f"export {ID}=old\nexport {SECRET}=olds\nreturn 0\n",
}


@pytest.mark.parametrize("what", KEPT)
@pytest.mark.parametrize("value", [key(7), session(7)], ids=["key", "session"])
def test_a_shell_exports_the_same_variables_as_before(tmp_path: Path, what: str, value: Credential) -> None:
    """Every exported variable stays exported with its value, ours with the new ones; a token is exported as its siblings."""
    path = tmp_path / "app.env"
    path.write_text(KEPT[what])
    before = exported_by_sh(path)
    assert {ID, SECRET} <= before.keys()
    assert written(path, KEPT[what], value, "shell")
    after = exported_by_sh(path)
    new = {ID: value.access_key_id, SECRET: "secretOf000007"}
    new |= {TOKEN: value.security_token.reveal()} if value.security_token else {}
    copy = {"COPY": value.access_key_id} if "COPY" in before else {}
    assert after == {**before, **new, **copy}


REFUSED = {
    "several assignments": f"export {ID}=old {SECRET}=olds REGION=x\n",
    "several commands": f"export {ID}=old; export {SECRET}=olds; export REGION=x\n",
    "two without export": f"REGION=x {ID}=old\n",
    "for one command": f"{ID}=old true\n",
    "an append": f"export {ID}=old\n{ID}+=er\n",
    "a declaration": f"readonly {ID}=old\n",
    "taken away": f"export {ID}=old\nunset {ID}\n",
    "a condition": f"if [ -n x ]; then\nexport {ID}=old\nelse\nexport {ID}=older\nfi\n",
    "behind &&": f"[ -n x ] &&\n{ID}=old\n",
    "a pipe": f"{ID}=old | cat\n",
    "in quotes": f"export '{ID}=old' REGION=x\n",
    "a background command": f"{ID}=old &\n",
    "a function": f"f() {{\n{ID}=old\n}}\n",
    "a return above": f"return 0\n{ID}=old\n",
    "another program above": f"exec true\n{ID}=old\n",
    "a bash function": f"function f {{\n{ID}=old\n}}\n",
    "an open here-document": "cat <<END\nA=1\n",
    "an open block": "if true; then\nA=1\n",
    "an open &&": "true &&\n",
    "an open substitution": "A=$(cat <<END\n",
    "an unbalanced end": "fi\n",
    "a quote that sh and bash close elsewhere": "A=$'it\\'s'\n",
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_line_that_does_more_than_assign_ours_is_refused(tmp_path: Path, what: str) -> None:
    """The file stays as it is, and the error names the line and how to write it."""
    assert not written(tmp_path / "app.env", REFUSED[what], session(), "shell")


def test_a_function_in_bashs_manner_is_somebody_elses(tmp_path: Path) -> None:
    """sh does not know the word; the file is kept as it is, and ours are set behind it."""
    path = tmp_path / "app.env"
    text = "function f {\n  A=1\n}\n"
    assert written(path, text, key(3), "shell")
    assert path.read_text().startswith(text)


def test_an_assignment_in_a_here_document_is_text(tmp_path: Path) -> None:
    """Its lines look like ours and are what somebody prints."""
    path = tmp_path / "app.env"
    text = f"cat >/dev/null <<-'END'\n\t{ID}=shown\n\tEND\n"
    assert written(path, text, key(3), "shell")
    assert path.read_text().startswith(text) and by_sh(path)[ID] == key(3).access_key_id


@pytest.mark.parametrize("dialect", READERS)
def test_a_byte_order_mark_before_our_variable_hides_nothing(tmp_path: Path, dialect: str) -> None:
    """The old line is replaced and its mark goes; a line of somebody else keeps it."""
    path = tmp_path / "app.env"
    assert written(path, f"\ufeff{ID}=old\nB=2\n", key(3), dialect)
    assert path.read_bytes().count(ID.encode()) == 1
    assert READERS[dialect](path).items() >= {ID: key(3).access_key_id, "B": "2"}.items()
    if dialect != "shell":  # which takes the mark for a part of a command
        assert written(path, "\ufeff# note\n", key(3), dialect)
        assert path.read_bytes().startswith(b"\xef\xbb\xbf# note\n")
        assert READERS[dialect](path)[ID] == key(3).access_key_id


GBK = "默认".encode("gbk")
FOREIGN = {
    "a value in GBK": b"A=" + GBK + b"\n",
    "a comment in GBK": b"# " + GBK + b"\n",
    "a zero byte": b"A=x\0y\n",
    "export": b"export A=1\n",
    "no name": b"=x\n",
    "a blank in a name": b"A B=1\n",
    "a long line": b"A=" + b"x" * (64 * 1024) + b"\n",
    "a line that is just not too long": b"A=" + b"x" * (64 * 1024 - 3) + b"\n",
    "nothing odd": b"A=1\n\n  # x\n",
}


@pytest.mark.parametrize("dialect", ["systemd", "docker", "dotenv"])
@pytest.mark.parametrize("what", FOREIGN)
def test_what_is_published_is_what_its_reader_reads(tmp_path: Path, dialect: str, what: str) -> None:
    """A file that its reader refuses as a whole is refused; only such a file is."""
    path = tmp_path / "app.env"
    taken = written(path, FOREIGN[what], key(3), dialect)
    if not taken:
        path.write_bytes(FOREIGN[what] + f"{ID}={key(3).access_key_id}\n".encode())
    try:
        read = READERS[dialect](path).get(ID) == key(3).access_key_id
    except Exception:  # what each reader says of such a file is its own affair
        read = False
    assert read is taken

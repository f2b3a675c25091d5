"""A reader that opens the directory once sees files of one generation, at any moment of hundreds of switches."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.support.sinks import directory, env_member, generations, json_member, key, publish

PUBLISHES = 300

READER = r"""
import json, os, re, stat, sys
path, keep = sys.argv[1], int(sys.argv[2])
patterns = {
    "aliyun.env": rb"ALIBABA_CLOUD_ACCESS_KEY_ID=LTAI5tKey(\d{6})\nALIBABA_CLOUD_ACCESS_KEY_SECRET=secretOf(\d{6})\n",
    "credential.json": rb'\{\n  "Code": "Success",\n  "AccessKeyId": "LTAI5tKey(\d{6})",\n'
                       rb'  "AccessKeySecret": "secretOf(\d{6})",\n  "SecurityToken": "",\n  "Expiration": "[^"]+"\n\}\n',
}
def whole(name, content):
    match = re.fullmatch(patterns[name], content)
    return int(match[1]) if match and match[1] == match[2] else None
def file(name, dir_fd=None):
    fd = os.open(name, os.O_RDONLY, dir_fd=dir_fd)
    try:
        return os.read(fd, 1 << 16), stat.S_IMODE(os.fstat(fd).st_mode)
    finally:
        os.close(fd)
def generation(place):
    return int(re.search(r"keyturn/(\d+)-", place)[1])
count = {"reads": 0, "too_slow": 0, "torn": 0, "mixed": 0, "missing": 0, "older": 0, "wide": 0, "by_path_mixed": 0}
seen, last = set(), 0
os.set_blocking(0, False)
while True:
    try:
        stop = os.read(0, 1) is not None
    except BlockingIOError:
        stop = False
    before = generation(os.readlink(path))
    fd = None
    try:
        fd = os.open(path, os.O_PATH | os.O_DIRECTORY)
        found = {name: file(name, fd) for name in patterns}
    except FileNotFoundError:
        # A busy machine may have had this process wait for more switches than are kept; for fewer it may not be.
        mine = before if fd is None else generation(os.readlink(f"/proc/self/fd/{fd}"))
        count["missing" if generation(os.readlink(path)) - mine <= keep else "too_slow"] += 1
    else:
        numbers = {whole(name, content) for name, (content, _) in found.items()}
        count["torn"] += None in numbers
        count["mixed"] += len(numbers) > 1
        count["wide"] += any(mode != 0o640 for _, mode in found.values())
        newest = max(number or 0 for number in numbers)
        count["older"] += newest < last
        last = newest
        seen.add(newest)
    if fd is not None:
        os.close(fd)
    try:
        careless = {whole(name, file(f"{path}/{name}")[0]) for name in patterns}
        count["by_path_mixed"] += len(careless) > 1
    except FileNotFoundError:
        pass
    count["reads"] += 1
    if count["reads"] == 1:
        print("ready", flush=True)
    if stop:
        break
print(json.dumps({**count, "seen": len(seen), "last": last}), flush=True)
"""


def test_a_reader_that_opens_the_directory_once_sees_one_generation(tmp_path: Path) -> None:
    """Nothing torn, mixed, missing, older or more open than configured; and no more is kept than the config says."""
    sink = directory(tmp_path / "credentials", env_member(), json_member(), mode=0o640)
    publish([sink], key(1), 1)
    command = [sys.executable, "-c", READER, sink.path, str(sink.settings.keep)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reader:
        assert reader.stdin and reader.stdout
        assert reader.stdout.readline() == b"ready\n"
        for number in range(2, PUBLISHES + 1):
            publish([sink], key(number), number)
        reader.stdin.close()
        report = json.loads(reader.stdout.readline())
    wrong = {name: report[name] for name in ("torn", "mixed", "missing", "older", "wide")}
    assert wrong == dict.fromkeys(wrong, 0)
    assert report["last"] == PUBLISHES and report["seen"] > 1 and report["reads"] > 1
    assert len(generations(sink)) == 3


def test_a_shell_goes_on_in_the_directory_that_it_entered(tmp_path: Path) -> None:
    """The recipe of the document, `cd -P`: for as many publishes as are kept, what it entered stays whole."""
    sink = directory(tmp_path / "credentials", keep=2)
    publish([sink], key(1), 1)
    script = 'cd -P "$1" && echo entered && read -r _ && cat aliyun.env credential.json'
    with subprocess.Popen(
        ["sh", "-c", script, "sh", sink.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as shell:
        assert shell.stdin and shell.stdout
        assert shell.stdout.readline() == b"entered\n"
        for number in (2, 3):
            publish([sink], key(number), number)
        shell.stdin.write(b"go on\n")
        shell.stdin.close()
        content = shell.stdout.read()
    assert content.count(b"secretOf000001") == 2

"""A reader in another process sees whole values only, at any moment of hundreds of publishes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.support.sinks import env, ini, json_file, key, publish

PUBLISHES = 300

READER = r"""
import json, os, re, stat, sys
patterns = {
    ".ini": rb"\[default\]\nenable = true\ntype = access_key\naccess_key_id = LTAI5tKey(\d{6})\n"
            rb"access_key_secret = secretOf(\d{6})\n",
    ".env": rb"FOREIGN=1\nALIBABA_CLOUD_ACCESS_KEY_ID=LTAI5tKey(\d{6})\n"
            rb"ALIBABA_CLOUD_ACCESS_KEY_SECRET=secretOf(\d{6})\n",
    ".json": rb'\{\n  "Code": "Success",\n  "AccessKeyId": "LTAI5tKey(\d{6})",\n'
             rb'  "AccessKeySecret": "secretOf(\d{6})",\n  "SecurityToken": "",\n  "Expiration": "[^"]+"\n\}\n',
}
paths = sys.argv[1:]
reads, seen, wrong, last = 0, set(), [], dict.fromkeys(paths, 0)
os.set_blocking(0, False)
while True:
    try:
        stop = os.read(0, 1) is not None
    except BlockingIOError:
        stop = False
    for path in paths:
        fd = os.open(path, os.O_RDONLY)
        mode = stat.S_IMODE(os.fstat(fd).st_mode)
        content = os.read(fd, 1 << 16)
        os.close(fd)
        match = re.fullmatch(patterns[os.path.splitext(path)[1]], content)
        if match is None or match[1] != match[2] or mode != 0o640 or int(match[1]) < last[path]:
            wrong.append([path, oct(mode), len(content)])
        else:
            last[path] = int(match[1])
            seen.add(last[path])
        reads += 1
    if reads == len(paths):
        print("ready", flush=True)
    if stop:
        break
print(json.dumps({"reads": reads, "seen": len(seen), "wrong": wrong[:5], "last": list(last.values())}), flush=True)
"""


def test_no_reader_ever_sees_a_torn_mixed_empty_or_open_file(tmp_path: Path) -> None:
    """Whole, never missing, one key with its own secret, the right mode, and never older than before."""
    sinks = [ini(tmp_path / "a.ini", mode=0o640), env(tmp_path / "b.env", mode=0o640)]
    sinks.append(json_file(tmp_path / "c.json", mode=0o640))  # type: ignore[arg-type]
    Path(sinks[1].path).write_text("FOREIGN=1\n")
    publish(sinks, key(1))
    command = [sys.executable, "-c", READER, *(sink.path for sink in sinks)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reader:
        assert reader.stdin and reader.stdout
        assert reader.stdout.readline() == b"ready\n"
        for number in range(2, PUBLISHES + 1):
            publish(sinks, key(number), number)
        reader.stdin.close()
        report = json.loads(reader.stdout.readline())
    assert report["wrong"] == []
    assert report["last"] == [PUBLISHES] * 3
    assert report["seen"] > 1 and report["reads"] >= 6
    assert len(os.listdir(tmp_path)) == 3

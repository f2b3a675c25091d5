"""Each quick start, followed from its first line to its last: it ends with what it promises."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.support.blocks import ROOT, blocks, of_kind
from tests.support.processes import eventually
from tests.support.reader import Reader

PAGES = sorted((ROOT / "docs/quickstart").glob("*.md"))
ENDS = ["See that it works", "What goes wrong"]


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    with Reader(tmp_path / "host") as reader:
        yield reader


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_each_quick_start_has_five_steps_how_to_see_it_and_what_goes_wrong(page: Path) -> None:
    """What is there at the end stands in the first sentence; something to paste is in each step."""
    text = page.read_text()
    assert any(
        part.startswith("At the end ") for part in text.split("\n\n")[1:3]
    )  # behind the way to the Chinese page, if any
    parts = re.split(r"^## (.+)$", text, flags=re.M)[1:]
    headings = parts[::2]
    assert [heading[:2] for heading in headings[:5]] == ["1.", "2.", "3.", "4.", "5."]
    assert headings[5:7] == ENDS
    assert all("```" in part for part in parts[1:13:2])
    assert "| you see | do |" in parts[13]


@pytest.mark.parametrize("page", sorted((ROOT / "docs/migration").glob("*.md")), ids=lambda page: page.stem)
def test_each_migration_says_what_maps_to_what_and_has_a_way_back_at_each_step(page: Path) -> None:
    """Whoever is in the middle of one can leave it."""
    text = page.read_text()
    assert "## What maps to what" in text
    steps = re.findall(r"^\d\. .+?(?=^\d\. |^$|\Z)", text.split("## In steps, each with a way back")[1], re.M | re.S)
    assert len(steps) >= 4
    assert [step for step in steps if "*Back:*" not in step] == []


@pytest.mark.slow
def test_instance_role(reader: Reader) -> None:
    """A session is in the env file, and the service was restarted for it."""
    reader.follow(ROOT / "docs/quickstart/instance_role.md")
    assert "ALIBABA_CLOUD_SECURITY_TOKEN=" in (reader.host / "etc/uploader/aliyun.env").read_text()
    eventually(lambda: "systemctl try-restart uploader.service" in reader.noted)
    eventually(lambda: "fresh" in reader.run("keyturn status"))
    assert "ALIBABA_CLOUD_ACCESS_KEY_ID=STS." in reader.said


@pytest.mark.slow
def test_client_key(reader: Reader) -> None:
    """The key that KMS hands out is in the profile; nothing is left of the downloads."""
    reader.follow(ROOT / "docs/quickstart/client_key.md")
    key = reader.cloud.current_key("uploader-ak").access_key_id
    assert f"access_key_id = {key}" in (reader.host / "etc/uploader/credentials.ini").read_text()
    assert key in reader.said and list((reader.host / "downloads").iterdir()) == []


@pytest.mark.slow
def test_ram_user(reader: Reader) -> None:
    """The key that stood in the file is under rotation; the CSV of the other user's is gone."""
    for name in ("reporter", "rotator"):
        reader.cloud.add_user(name, "*")
    held, rotator = (reader.cloud.add_access_key(name) for name in ("reporter", "rotator"))
    csv = f"AccessKey ID,AccessKey Secret\r\n{rotator.access_key_id},{rotator.access_key_secret}\r\n"
    (reader.host / "downloads/AccessKey.csv").write_text(csv)
    (reader.host / "etc/reporter").mkdir()
    file = reader.host / "etc/reporter/aliyun.env"
    file.touch(mode=0o600)
    file.write_text(
        f"ALIBABA_CLOUD_ACCESS_KEY_ID={held.access_key_id}\nALIBABA_CLOUD_ACCESS_KEY_SECRET={held.access_key_secret}\n"
    )
    reader.follow(ROOT / "docs/quickstart/ram_user.md")
    assert f"ALIBABA_CLOUD_ACCESS_KEY_ID={held.access_key_id}\n" in file.read_text()
    assert "key_adopted" in reader.run("keyturn audit show --json")
    eventually(lambda: "fresh" in reader.run("keyturn status"))
    assert not (reader.host / "downloads/AccessKey.csv").exists()


@pytest.mark.slow
def test_external(reader: Reader) -> None:
    """The SDK asked, and got the key. (It is root who asks here, and may write the profile: tests/systemd has other users.)"""
    reader.has_the_client_key()
    reader.follow(ROOT / "docs/quickstart/external.md")
    assert f"{reader.cloud.current_key('uploader-ak').access_key_id}\n" in reader.said
    assert '"External"' in (reader.host / "var/lib/uploader/.aliyun/config.json").read_text()


@pytest.mark.slow
def test_oss(reader: Reader) -> None:
    """ossutil's file has the key, and the line that the reader added."""
    reader.has_the_client_key()
    reader.follow(ROOT / "docs/quickstart/oss.md")
    written = (reader.host / "etc/uploader/ossutilconfig").read_text()
    assert reader.cloud.current_key("uploader-ak").access_key_secret in written
    assert "region = cn-hangzhou" in written and "ossutil ls " in reader.noted


@pytest.mark.slow
def test_sls(reader: Reader) -> None:
    """The SLS SDK signs with the key that KMS hands out."""
    reader.has_the_client_key()
    reader.follow(ROOT / "docs/quickstart/sls.md")
    assert f"signs with {reader.cloud.current_key('uploader-ak').access_key_id}" in reader.said


@pytest.mark.slow
def test_container(reader: Reader) -> None:
    """The image would be built and started; its config, run here, publishes into the directory that both mount."""
    page = ROOT / "docs/quickstart/container.md"
    reader.follow(page)
    assert (
        "docker build -f packaging/container/Containerfile" in reader.noted and "docker compose up -d" in reader.noted
    )
    (compose,) = (
        yaml.safe_load(block.text) for block in of_kind("yaml") if block.page == "docs/quickstart/container.md"
    )
    mounts = {volume.split(":")[1] for volume in compose["services"]["keyturn"]["volumes"]}
    assert mounts == {"/etc/keyturn/keyturn.toml", "/var/lib/keyturn", "/var/log/keyturn", "/run/uploader"}
    (reader.host / "run/uploader").mkdir()
    reader.run("keyturn --config /srv/uploader/keyturn.toml once")
    assert "STS." in (reader.host / "run/uploader/credentials.json").read_text()


@pytest.mark.slow
def test_cron(reader: Reader) -> None:
    """The job begins with a session, without a daemon."""
    reader.follow(ROOT / "docs/quickstart/cron.md")
    assert "aliyun oss cp " in reader.noted and "0 3 * * *" in reader.noted
    assert "published" in reader.said and "systemctl" not in reader.noted


@pytest.mark.slow
def test_terraform(reader: Reader) -> None:
    """The profile has a session."""
    reader.follow(ROOT / "docs/quickstart/terraform.md")
    assert '"StsToken"' in (reader.host / "etc/terraform/aliyun.json").read_text()
    assert "terraform plan" in reader.noted


@pytest.mark.slow
def test_the_sample_hook_is_run_and_gets_what_its_page_says(reader: Reader) -> None:
    """docs/howto/hook.md: run after a publish with the news, and it ends well with all sinks readable."""
    page = ROOT / "docs/howto/hook.md"
    worker = reader.host / "usr/local/lib/keyturn/worker-ctl"
    worker.parent.mkdir(parents=True)
    worker.write_text(f'#!/bin/sh\n(echo "worker $*"; env) >> {reader.host}/noted\n')
    worker.chmod(0o755)
    reader.has_the_client_key()
    reader.follow(ROOT / "docs/quickstart/client_key.md")
    reader.add(next(block for block in blocks(page) if block.kind == "toml"))
    reader.follow(page)
    reader.cloud.rotate("uploader-ak")
    reader.run("keyturn refresh uploader")
    eventually(lambda: "worker reload" in reader.noted)
    told = dict(re.findall(r"^(KEYTURN_\w+)=(.*)$", reader.noted, re.M))
    assert set(told) == set(re.findall(r"`(KEYTURN_\w+)`", page.read_text()))
    assert told["KEYTURN_GENERATION"] == "2"
    assert told["KEYTURN_ACCESS_KEY_ID"] == reader.cloud.current_key("uploader-ak").access_key_id


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here")
def test_each_unit_is_one_that_systemd_takes(tmp_path: Path) -> None:
    """`systemd-analyze verify` with each drop-in of a page beside a service of that name."""
    for number, block in enumerate(of_kind("ini")):
        units = tmp_path / str(number)
        drop_in = units / Path(block.file).relative_to("/etc/systemd/system")
        drop_in.parent.mkdir(parents=True)
        drop_in.write_text(block.text)
        service = units / drop_in.parent.name.removesuffix(".d")
        service.write_text("[Service]\nExecStart=/bin/true\n")
        (units / "keyturn.service").write_text("[Service]\nExecStart=/bin/true\n")
        done = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", str(service)],
            env={"SYSTEMD_UNIT_PATH": f"{units}:"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, ""), block.place

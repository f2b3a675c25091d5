"""What the documents for contributors say of the code is so: the change log, the recipes, the glossary, the decisions."""

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import textwrap
from datetime import date
from pathlib import Path

import pytest

import providers
from agent import __version__
from agent.app.wiring import NOTIFIERS, SINKS

ROOT = Path(__file__).parent.parent
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()


def releases():
    """(version, date) of each release in CHANGELOG.md, newest first; `Unreleased` stands above them."""
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert headings[0] == "[Unreleased]"
    found = [re.fullmatch(r"\[(\d+\.\d+\.\d+)\] - (\d{4}-\d\d-\d\d)", heading) for heading in headings[1:]]
    assert all(found), headings
    return [(match[1], date.fromisoformat(match[2])) for match in found]


def test_the_newest_release_is_this_version_and_has_its_date():
    """The code, the change log, the supported versions and the package's name in the documents agree."""
    known = releases()
    assert known[0][0] == __version__
    ages = [(tuple(map(int, version.split("."))), day) for version, day in known]
    assert ages == sorted(ages, reverse=True)
    minor = ".".join(__version__.split(".")[:2])
    assert f"| {minor}.x | yes |" in (ROOT / "SECURITY.md").read_text()
    assert set(re.findall(r"keyturn_([\d.]+)_amd64", (ROOT / "docs/install.md").read_text())) == {__version__}


@pytest.mark.parametrize("type_name", [*providers.BUILT_IN, *SINKS, *NOTIFIERS])
def test_every_type_of_the_config_is_documented(type_name):
    """docs/config.md, from which keyturn.toml(5) is made, knows each provider, sink and notifier."""
    assert f"`{type_name}`" in (ROOT / "docs/config.md").read_text()


def blocks(language):
    """The code blocks of CONTRIBUTING.md, freed of their indentation, each with the line that introduces it."""
    found = re.findall(rf"^([^\n]*)\n\n +```{language}\n(.*?)^ +```$", CONTRIBUTING, re.M | re.S)
    return [(intro, textwrap.dedent(code)) for intro, code in found]


def follow_the_recipes(tree):
    """Do in a copy of the tree what CONTRIBUTING.md says: new files, and the line that registers each type."""
    for package in ("agent", "providers"):
        shutil.copytree(ROOT / package, tree / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy2(ROOT / "docs/example_provider/keyturn_json_file.py", tree / "providers/json_file.py")
    for intro, code in blocks("python"):
        file = re.search(r"\*\*The class\*\*, in `(\S+)`:", intro)
        if file:
            (tree / file[1]).write_text(code)
            continue
        table = re.search(r"\*\*The line\*\* in `(\w+)` of \[.*\]\((\S+)\):", intro)
        text = (tree / table[2]).read_text()
        assert text.count(f"{table[1]} = {{\n") == 1, table
        (tree / table[2]).write_text(text.replace(f"{table[1]} = {{\n", f"{table[1]} = {{\n    {code}"))


def keyturn(tree, *words):
    """What a command of the copy prints, and its exit code."""
    environ = {"PYTHONPATH": str(tree), "PATH": os.environ["PATH"]}
    command = [sys.executable, "-m", "agent", "--config", "keyturn.toml", *words]
    done = subprocess.run(command, cwd=tree, env=environ, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


def test_the_recipes_of_contributing_make_types_that_work(tmp_path):
    """A provider, a sink and a notifier, made as the page says, are checked and publish a first value."""
    follow_the_recipes(tmp_path)
    place = tmp_path / "srv"
    for directory in ("srv", "state"):
        (tmp_path / directory).mkdir(mode=0o700)
    tables = "".join(code for _intro, code in blocks("toml")).replace("/srv/app", str(place))
    agent = f'[agent]\nstate_directory = "{tmp_path}/state"\nruntime_directory = "{tmp_path}/state"\n'
    config = f'{agent}audit.path = "{tmp_path}/state/audit.jsonl"\n[credentials.uploader]\nverify = "off"\n{tables}'
    (tmp_path / "keyturn.toml").write_text(config)
    (tmp_path / "keyturn.toml").chmod(0o600)
    (place / "key.json").write_text(json.dumps({"id": "LTAI5tExample", "secret": "exampleSecret"}))
    (place / "key.json").chmod(0o600)
    (place / "reload").touch()
    os.utime(place / "reload", (0, 0))

    code, said = keyturn(tmp_path, "check", "--offline")
    assert code == 0, said
    assert f"{place}/aliyun.properties can be written" in said
    assert "credentials.uploader.notify[0]: can be touched" in said
    code, said = keyturn(tmp_path, "once")
    assert code == 0, said
    published = (place / "aliyun.properties").read_text()
    assert published == "alibaba.cloud.access_key_id=LTAI5tExample\nalibaba.cloud.access_key_secret=exampleSecret\n"
    assert (place / "reload").stat().st_mtime > 0


BENCHMARKS = [program for program in sorted((ROOT / "bench").glob("*.py")) if "def main" in program.read_text()]


@pytest.mark.parametrize("program", BENCHMARKS, ids=lambda program: program.stem)
def test_every_benchmark_starts_and_is_explained(program):
    """What it imports of the product and the tests is there, and bench/README.md says how to read it."""
    assert callable(runpy.run_path(str(program), run_name="benchmark")["main"])
    assert f"**{program.name}**" in (ROOT / "bench/README.md").read_text()


# -- the way, the words, the decisions ---------------------------------------------------------------------------------
def steps():
    """(file, name) of everything that docs/architecture.md says who does; "" where it names a file or folder alone."""
    for file, names in re.findall(
        r"`([\w/]+(?:\.py|/))`((?: `\w+`(?:, )?)*)", (ROOT / "docs/architecture.md").read_text()
    ):
        yield from ((file, name) for name in re.findall(r"\w+", names) or [""])


@pytest.mark.parametrize(("file", "name"), sorted(set(steps())))
def test_the_way_from_a_config_line_to_a_told_dependent_can_be_walked(file, name):
    """Each file and folder of docs/architecture.md is there, and defines what the page says of it."""
    assert (ROOT / file).exists(), file
    if name:
        assert re.search(rf"^(class|def) {name}\b|^{name} = ", (ROOT / file).read_text(), re.M), f"{file} has no {name}"


def test_the_way_names_enough_to_be_walked():
    """Eleven steps, each with somebody who takes it."""
    rows = re.findall(r"^\| \d+ \|.*\| (.+) \|$", (ROOT / "docs/architecture.md").read_text(), re.M)
    assert len(rows) == 11
    assert [row for row in rows if not re.search(r"`[\w/]+\.py` `\w+`", row)] == []


def test_the_glossary_has_eighteen_words_and_where_each_lives():
    """Two lines for each, with a module or a folder that is there."""
    entries = re.findall(r"^\*\*(.+?)\*\*: (.+\n.+)\n(?=\n|\Z)", (ROOT / "docs/glossary.md").read_text(), re.M)
    assert len(entries) == 18
    for word, meaning in entries:
        places = re.findall(r"`((?:agent|providers)/[\w/.]*)`", meaning)
        assert places and all((ROOT / place).exists() for place in places), word


def decisions():
    return sorted((ROOT / "docs/adr").glob("[0-9]*.md"))


@pytest.mark.parametrize("page", decisions(), ids=lambda page: page.name[:4])
def test_each_decision_says_why_and_what_it_binds(page):
    """One page with context, decision, what was rejected and what follows; the modules that it binds name it."""
    text, number = page.read_text(), page.name[:4]
    assert text.startswith(f"# {int(number)}. ")
    assert re.findall(r"^## (.+)$", text, re.M) == ["Context", "Decision", "Rejected", "Consequences"]
    assert len(text.splitlines()) <= 45
    (binds,) = re.findall(r"^Accepted \d{4}-\d\d-\d\d\. Binds: (.+)\.$", text, re.M)
    modules = re.findall(r"`(.+?)`", binds)
    assert modules and all((ROOT / module).is_file() for module in modules), binds
    assert any(f"docs/adr/{number}" in (ROOT / module).read_text() for module in modules), (
        f"none of {binds} points to docs/adr/{number}"
    )
    assert (
        f"| [{number}]({page.name}) | {text.splitlines()[0].partition('. ')[2]} | {binds} |"
        in (ROOT / "docs/adr/README.md").read_text()
    )


def test_the_decisions_are_numbered_in_a_row_and_every_pointer_finds_its_page():
    """No number is given twice or left out, and no docstring names a page that is not there."""
    numbers = [page.name[:4] for page in decisions()]
    assert numbers == [f"{number:04}" for number in range(1, len(numbers) + 1)]
    files = [path for folder in ("agent", "providers") for path in (ROOT / folder).rglob("*.py")]
    pointers = [(path.name, found) for path in files for found in re.findall(r"docs/adr/(\w+)", path.read_text())]
    assert [pointer for pointer in pointers if pointer[1] not in numbers] == []

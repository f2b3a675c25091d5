"""What a malformed config is told: one line for each mistake, place first."""

from __future__ import annotations

import pytest

from agent.core.errors import EXIT_CONFIG, ConfigError
from tests.support.golden import Golden
from tests.support.settings import GOOD, PROVIDER, SINK, problems, read


def in_provider(line: str) -> str:
    """Add a line to the provider of a sound config."""
    return PROVIDER + line + "\n" + SINK


def in_sink(line: str) -> str:
    """Add a line to the sink of a sound config."""
    return GOOD + line + "\n"


def in_notify(lines: str) -> str:
    """Add a notifier to a sound config."""
    return GOOD + "[[credentials.a.notify]]\n" + lines + "\n"


def in_cloud(line: str) -> str:
    """Add a line to `[cloud]`."""
    return GOOD + "[cloud]\n" + line + "\n"


def in_agent(line: str) -> str:
    """Add a line to `[agent]`."""
    return GOOD + "[agent]\n" + line + "\n"


def two_sinks(first: str, second: str) -> str:
    """Two sinks of one credential."""
    header = "[[credentials.a.sinks]]\n"
    return PROVIDER + header + first + "\n" + header + second + "\n"


def role(name: str, base: str) -> str:
    """Write a credential on top of another."""
    return (
        f'[credentials.{name}.provider]\ntype = "ram_role_arn"\nrole_arn = "acs:ram::1:role/x"\nbase = {base}\n'
        f'[[credentials.{name}.sinks]]\ntype = "json"\npath = "/etc/{name}.json"\n'
    )


ONE_PROBLEM = {
    "a misspelt key names the nearest one": (
        in_provider('poll_intervall = "60s"'),
        "credentials.a.provider.poll_intervall",
    ),
    "a strange key lists what is known": (in_sink("frobnicate = 1"), "credentials.a.sinks[0].frobnicate"),
    "a misspelt table": (GOOD + "[agnet]\n", "agnet"),
    "a key that garbles terminals is escaped": (in_sink('"a\\u001b[31m" = 1'), 'credentials.a.sinks[0]."a\\u001b[31m"'),
    "a required key is missing": (
        '[credentials.a.provider]\ntype = "kms_secret"\n' + SINK,
        "credentials.a.provider.secret_name",
    ),
    "a provider is missing": (SINK, "credentials.a.provider"),
    "a type is missing": (PROVIDER + '[[credentials.a.sinks]]\npath = "/etc/a"\n', "credentials.a.sinks[0].type"),
    "a type is no string": (PROVIDER + "[[credentials.a.sinks]]\ntype = 1\n", "credentials.a.sinks[0].type"),
    "a misspelt type names the nearest one": (
        '[credentials.a.provider]\ntype = "kms_secert"\n' + SINK,
        "credentials.a.provider.type",
    ),
    "a strange type lists what there is": (
        GOOD + '[[credentials.a.notify]]\ntype = "pigeon"\n',
        "credentials.a.notify[0].type",
    ),
    "a third party's package is broken": (
        '[credentials.a.provider]\ntype = "broken"\n' + SINK,
        "credentials.a.provider.type",
    ),
    "a third party's package brings no settings": (
        '[credentials.a.provider]\ntype = "odd"\n' + SINK,
        "credentials.a.provider.type",
    ),
    "a table in the place of tables": (
        PROVIDER + '[credentials.a.sinks]\ntype = "json"\npath = "/etc/a"\n',
        "credentials.a.sinks",
    ),
    "tables in the place of a table": (
        '[[credentials.a.provider]]\ntype = "kms_secret"\n' + SINK,
        "credentials.a.provider",
    ),
    "a scalar in the place of a table": ("agent = 3\n" + GOOD, "agent"),
    "a string in the place of an array": (
        in_notify('type = "exec"\ncommand = "reload app"'),
        "credentials.a.notify[0].command",
    ),
    "an item of the wrong type": (
        in_notify('type = "exec"\ncommand = ["/bin/kill", 1]'),
        "credentials.a.notify[0].command[1]",
    ),
    "a fraction is not an integer": (
        in_notify('type = "http"\nurl = "x"\norder = 1.5'),
        "credentials.a.notify[0].order",
    ),
    "true is not an integer": (
        in_notify('type = "http"\nurl = "x"\nretries = true'),
        "credentials.a.notify[0].retries",
    ),
    "1 is not true": (in_provider('regions = [{ region_id = "x", vpc = 1 }]'), "credentials.a.provider.regions[0].vpc"),
    "an integer that Python would not print": (
        in_provider(f"properties_file = 0x{'f' * 6000}"),
        "credentials.a.provider.properties_file",
    ),
    "a union says what it takes": (
        in_notify('type = "http"\nurl = "x"\nexpect_status = "ok"'),
        "credentials.a.notify[0].expect_status",
    ),
    "the arms of a union are judged by shape": (
        two_sinks('type = "env_file"\npath = "/etc/e"\nvariables = { A = "secret" }', 'type = "json"\npath = "/etc/j"'),
        "credentials.a.sinks[0].variables.A",
    ),
    "a preset that does not exist": (
        two_sinks('type = "env_file"\npath = "/etc/e"\nvariables = ["osss"]', 'type = "json"\npath = "/etc/j"'),
        "credentials.a.sinks[0].variables[0]",
    ),
    "a date is no path": (in_provider("properties_file = 2026-11-22"), "credentials.a.provider.properties_file"),
    "a choice lists the choices": ('[credentials.a]\nverify = "yes"\n' + GOOD, "credentials.a.verify"),
    "false is no choice": ("[credentials.a]\nverify = false\n" + GOOD, "credentials.a.verify"),
    "many choices name the nearest one": (
        in_notify('type = "systemd"\nunit = "a.service"\naction = "relaod"'),
        "credentials.a.notify[0].action",
    ),
    "a long value is not repeated": (f'[credentials.a]\nverify = "{"x" * 21}"\n' + GOOD, "credentials.a.verify"),
    "seconds need a unit": (in_provider("poll_interval = 60"), "credentials.a.provider.poll_interval"),
    "an unknown unit": (in_provider('poll_interval = "1 hour"'), "credentials.a.provider.poll_interval"),
    "no duration is negative": (in_agent('settle = "-1s"'), "agent.settle"),
    "an empty duration": (in_agent('settle = ""'), "agent.settle"),
    "a duration past any sense": (in_agent('settle = "9999d"'), "agent.settle"),
    "a poll that is no pause": (in_provider('poll_interval = "900ms"'), "credentials.a.provider.poll_interval"),
    "no time to verify": ('[credentials.a]\nverify_timeout = "0s"\n' + GOOD, "credentials.a.verify_timeout"),
    "stale at once": ('[credentials.a]\nmax_staleness = "0s"\n' + GOOD, "credentials.a.max_staleness"),
    "a canary without a key": (
        "[credentials.a]\ncanary = true\n" + PROVIDER + role("b", '"a"'),
        "credentials.a.canary",
    ),
    "no time to tell": (in_notify('type = "http"\nurl = "x"\ntimeout = "0s"'), "credentials.a.notify[0].timeout"),
    "negative retries": (in_notify('type = "http"\nurl = "x"\nretries = -1'), "credentials.a.notify[0].retries"),
    "a probe without a command": (
        in_notify('type = "http"\nurl = "x"\npickup = { command = [] }'),
        "credentials.a.notify[0].pickup.command",
    ),
    "a mode as an integer": (in_sink("mode = 640"), "credentials.a.sinks[0].mode"),
    "a mode that is not octal": (in_sink('mode = "0649"'), "credentials.a.sinks[0].mode"),
    "a mode that lets everyone in": (in_sink('mode = "0644"'), "credentials.a.sinks[0].mode"),
    "a mode that lets everyone write": (in_sink('mode = "0602"'), "credentials.a.sinks[0].mode"),
    "a mode with a setuid bit": (in_sink('mode = "4600"'), "credentials.a.sinks[0].mode"),
    "a mode that keeps the owner out": (in_sink('mode = "0040"'), "credentials.a.sinks[0].mode"),
    "a relative path": (in_provider('properties_file = "etc/x"'), "credentials.a.provider.properties_file"),
    "a path by a variable of the shell": (
        in_provider('properties_file = "$HOME/x"'),
        "credentials.a.provider.properties_file",
    ),
    "a variable that is not set": (
        in_provider('properties_file = "${NOWHERE}/x"'),
        "credentials.a.provider.properties_file",
    ),
    "a variable that is empty": (
        in_provider('properties_file = "${EMPTY}/x"'),
        "credentials.a.provider.properties_file",
    ),
    "a variable that holds no absolute path": (
        in_provider('properties_file = "${RELATIVE}/x"'),
        "credentials.a.provider.properties_file",
    ),
    "a variable that does not end": (
        in_provider('properties_file = "/x/${HOME"'),
        "credentials.a.provider.properties_file",
    ),
    "a path with a NUL": (in_provider('properties_file = "/x\\u0000y"'), "credentials.a.provider.properties_file"),
    "what a settings class says itself": (
        in_provider('properties_file = "/x"\nregions = [{ region_id = "x" }]'),
        "credentials.a.provider.regions",
    ),
    "an endpoint with a scheme": (in_cloud('sts_endpoint = "https://sts.aliyuncs.com"'), "cloud.sts_endpoint"),
    "an endpoint with a path": (in_cloud('kms_endpoint = "kms.aliyuncs.com/x"'), "cloud.kms_endpoint"),
    "an endpoint with an impossible port": (in_cloud('ram_endpoint = "ram.aliyuncs.com:65536"'), "cloud.ram_endpoint"),
    "a region that would make another host": (in_cloud('region_id = "x.evil.example/"'), "cloud.region_id"),
    "metrics without a port": (in_agent('metrics_listen = "127.0.0.1"'), "agent.metrics_listen"),
    "an endpoint that others can reach": (
        GOOD + '[agent.endpoint]\nlisten = "0.0.0.0:8911"\n',
        "agent.endpoint.listen",
    ),
    "an endpoint on this machine's address in the network": (
        GOOD + '[agent.endpoint]\nlisten = "192.0.2.1:8911"\n',
        "agent.endpoint.listen",
    ),
    "an endpoint by a name, which may lead anywhere": (
        GOOD + '[agent.endpoint]\nlisten = "localhost:8911"\n',
        "agent.endpoint.listen",
    ),
    "an endpoint without a port": (GOOD + '[agent.endpoint]\nlisten = "127.0.0.1"\n', "agent.endpoint.listen"),
    "an endpoint without an address": (GOOD + "[agent.endpoint]\n", "agent.endpoint.listen"),
    "an unknown owner": (in_sink('owner = "nobody-here"'), "credentials.a.sinks[0].owner"),
    "an unknown group": (in_sink('group = "nobody-here"'), "credentials.a.sinks[0].group"),
    "an unknown user of a hook": (
        in_notify('type = "exec"\ncommand = ["/x"]\nuser = "nobody-here"'),
        "credentials.a.notify[0].user",
    ),
    "no credentials at all": ("", "credentials"),
    "an empty table of credentials": ("[credentials]\n", "credentials"),
    "credentials that are no table": ("credentials = 1\n", "credentials"),
    "a name with a blank": (GOOD.replace("credentials.a", 'credentials."a b"'), 'credentials."a b"'),
    "a name that climbs": (GOOD.replace("credentials.a", 'credentials."../x"'), 'credentials."../x"'),
    "a credential that goes nowhere": (PROVIDER, "credentials.a"),
    "a base that is not defined": (GOOD + role("b", '"aa"'), "credentials.b.provider.base"),
    "a base like none": (GOOD + role("b", '"xyz"'), "credentials.b.provider.base"),
    "a base that is the credential itself": (role("b", '"b"'), "credentials.b.provider.base"),
    "bases in a circle": (role("b", '"c"') + role("c", '"d"') + role("d", '"b"'), "credentials.b.provider.base"),
    "a base inside an inline base": (
        role("b", '{ type = "ram_role_arn", role_arn = "x", base = "nowhere" }'),
        "credentials.b.provider.base.base",
    ),
    "an authority that is not defined": (
        GOOD + '[credentials.a.emergency]\nauthority = "nowhere"\n',
        "credentials.a.emergency.authority",
    ),
    "an authority that is the credential itself": (
        GOOD + '[credentials.a.emergency]\nauthority = "a"\n',
        "credentials.a.emergency.authority",
    ),
    "an authority that is neither": (
        GOOD + "[credentials.a.emergency]\nauthority = 5\n",
        "credentials.a.emergency.authority",
    ),
    "the same file twice": (
        two_sinks('type = "json"\npath = "/etc/x"', 'type = "json"\npath = "/etc/./y/..//x"'),
        "credentials.a.sinks[1].path",
    ),
    "the same profile twice": (
        two_sinks('type = "credentials_ini"\npath = "/etc/x"', 'type = "credentials_ini"\npath = "/etc/x"'),
        "credentials.a.sinks[1].path",
    ),
    "the same variable twice": (
        two_sinks(
            'type = "env_file"\npath = "/etc/x"\nvariables = ["oss"]',
            'type = "env_file"\npath = "/etc/x"\nvariables = { OSS_ACCESS_KEY_ID = "access_key_id" }',
        ),
        "credentials.a.sinks[1].path",
    ),
    "a file that another sink owns whole": (
        two_sinks('type = "credentials_ini"\npath = "/etc/x"', 'type = "json"\npath = "/etc/x"'),
        "credentials.a.sinks[1].path",
    ),
    "a sink over the audit log": (GOOD + '[agent.audit]\npath = "/etc/a.json"\n', "credentials.a.sinks[0].path"),
    "metrics over the audit log": (
        in_agent('metrics_textfile = "/var/log/keyturn/audit.jsonl"'),
        "agent.metrics_textfile",
    ),
    "one file with two modes": (
        two_sinks(
            'type = "credentials_ini"\npath = "/etc/x"',
            'type = "credentials_ini"\npath = "/etc/x"\nprofile = "b"\nmode = "0640"',
        ),
        "credentials.a.sinks[1].mode",
    ),
}


@pytest.mark.parametrize(("text", "place"), ONE_PROBLEM.values(), ids=ONE_PROBLEM)
def test_each_mistake_has_its_place(text: str, place: str) -> None:
    """One mistake makes one line, which names the place and says what to do; tests/golden/messages.txt has the sentence."""
    (problem,) = problems(text)
    assert problem.startswith(f"{place}: ")


NOT_TOML = {
    "no value": b"[agent]\nsettle =\n",
    "a table twice": b"[agent]\n[agent]\n",
    "no end": b'x = "',
    "Latin-1": b"# a\n# caf\xe9\n",
    "too many brackets": b"x = " + b"[" * 5000 + b"]" * 5000,
    "too many dots": b"x" + b".x" * 5000 + b" = 1",
    "too large": b"#" * (1024 * 1024 + 1),
}


@pytest.mark.parametrize("text", NOT_TOML.values(), ids=NOT_TOML)
def test_what_is_not_toml_is_one_problem_of_the_file(text: bytes) -> None:
    """Whatever the parser stumbled over; tests/golden/messages.txt has the sentence, with line and column."""
    with pytest.raises(ConfigError) as caught:
        read(text)
    (problem,) = caught.value.problems
    assert problem.startswith(("keyturn.toml: ", "keyturn.toml:1:", "keyturn.toml:2:"))


def test_the_sentences_are_those_that_were_approved(golden: Golden) -> None:
    """Every rule of the config, each by a config that breaks only this one."""
    texts = {**{name: text for name, (text, _place) in ONE_PROBLEM.items()}, **NOT_TOML}
    said = {}
    for name, text in texts.items():
        with pytest.raises(ConfigError) as caught:
            read(text)
        said[name] = str(caught.value)
    golden("config", said)


def test_an_integer_of_many_digits_is_no_traceback() -> None:
    """Python refuses to read integers past 4300 digits; that too is a problem with a sentence."""
    (line,) = problems("x = " + "9" * 5000)
    assert line.startswith("not valid TOML: ")


def test_a_relative_directory_from_systemd_is_named_by_its_variable() -> None:
    """The operator looks for the mistake where it is: in the environment."""
    assert problems(GOOD, environ={"STATE_DIRECTORY": "var/lib"}) == [
        "the environment variable STATE_DIRECTORY holds no absolute path; unset it or name a directory"
    ]


def test_all_problems_are_reported_at_once() -> None:
    """Mistakes in every corner of a file come in one go, also those between tables of which one is broken."""
    text = """
[agent]
settle = 2
metrics_listen = "x"
[cloud]
regoin_id = "cn-hangzhou"
[credentials.a]
verify = "on"
[credentials.a.provider]
type = "kms_secret"
[[credentials.a.sinks]]
type = "json"
path = "/etc/x"
owner = "nobody-here"
mode = "0666"
[[credentials.a.sinks]]
type = "json"
path = "etc/y"
owner = "nobody-here"
mode = "0666"
[[credentials.b.sinks]]
type = "json"
path = "/etc/x"
[credentials.b.emergency]
authority = "nowhere"
"""
    assert {line.partition(": ")[0] for line in problems(text)} == {
        "agent.settle",
        "agent.metrics_listen",
        "cloud.regoin_id",
        "credentials.a.verify",
        "credentials.a.provider.secret_name",
        "credentials.a.sinks[0].owner",
        "credentials.a.sinks[0].mode",
        "credentials.a.sinks[1].path",
        "credentials.a.sinks[1].owner",
        "credentials.a.sinks[1].mode",
        "credentials.b.provider",
        "credentials.b.sinks[0].path",
        "credentials.b.sinks[0].mode",
        "credentials.b.sinks[0].owner",
        "credentials.b.emergency.authority",
    }


def test_an_invalid_config_exits_with_78() -> None:
    """Supervisors tell a bad config from a bad day by the exit code."""
    with pytest.raises(ConfigError) as caught:
        read(b"")
    assert caught.value.exit_code == EXIT_CONFIG

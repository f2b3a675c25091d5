"""What a malformed config is told: the whole sentence, place first."""

from __future__ import annotations

import pytest

from agent.core.errors import EXIT_CONFIG, ConfigError
from tests.support.settings import GOOD, PROVIDER, SINK, problems, read

AT_A = "credentials.a"


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
        'credentials.a.provider.poll_intervall: unknown key; did you mean "poll_interval"?',
    ),
    "a strange key lists what is known": (
        in_sink("frobnicate = 1"),
        "credentials.a.sinks[0].frobnicate: unknown key; known here: type, path, owner, group, mode, write",
    ),
    "a misspelt table": (GOOD + "[agnet]\n", 'agnet: unknown key; did you mean "agent"?'),
    "a key that garbles terminals is escaped": (
        in_sink('"a\\u001b[31m" = 1'),
        'credentials.a.sinks[0]."a\\u001b[31m": unknown key; known here: type, path, owner, group, mode, write',
    ),
    "a required key is missing": (
        '[credentials.a.provider]\ntype = "kms_secret"\n' + SINK,
        "credentials.a.provider.secret_name: required, but missing",
    ),
    "a provider is missing": (SINK, "credentials.a.provider: required, but missing"),
    "a type is missing": (
        PROVIDER + '[[credentials.a.sinks]]\npath = "/etc/a"\n',
        'credentials.a.sinks[0].type: required, but missing; want "credentials_ini", "env_file" or "json"',
    ),
    "a type is no string": (
        PROVIDER + "[[credentials.a.sinks]]\ntype = 1\n",
        'credentials.a.sinks[0].type: want a string, got 1; want "credentials_ini", "env_file" or "json"',
    ),
    "a misspelt type names the nearest one": (
        '[credentials.a.provider]\ntype = "kms_secert"\n' + SINK,
        'credentials.a.provider.type: there is no provider of type "kms_secert"; did you mean "kms_secret"?',
    ),
    "a strange type lists what there is": (
        GOOD + '[[credentials.a.notify]]\ntype = "pigeon"\n',
        'credentials.a.notify[0].type: there is no notifier of type "pigeon"; want "exec", "http" or "systemd"',
    ),
    "a third party's package is broken": (
        '[credentials.a.provider]\ntype = "broken"\n' + SINK,
        "credentials.a.provider.type: the provider broken cannot be loaded (ImportError);"
        " reinstall the package that brings it",
    ),
    "a third party's package brings no settings": (
        '[credentials.a.provider]\ntype = "odd"\n' + SINK,
        "credentials.a.provider.type: the provider odd brings no dataclass derived from ProviderSettings;"
        " report it to its author",
    ),
    "a table in the place of tables": (
        PROVIDER + '[credentials.a.sinks]\ntype = "json"\npath = "/etc/a"\n',
        "credentials.a.sinks: want an array, got a table; write [[credentials.a.sinks]]",
    ),
    "tables in the place of a table": (
        '[[credentials.a.provider]]\ntype = "kms_secret"\n' + SINK,
        "credentials.a.provider: want a table, got an array; write [credentials.a.provider]",
    ),
    "a scalar in the place of a table": ("agent = 3\n" + GOOD, "agent: want a table, got 3"),
    "a string in the place of an array": (
        in_notify('type = "exec"\ncommand = "reload app"'),
        'credentials.a.notify[0].command: want an array, got "reload app"',
    ),
    "an item of the wrong type": (
        in_notify('type = "exec"\ncommand = ["/bin/kill", 1]'),
        "credentials.a.notify[0].command[1]: want a string, got 1",
    ),
    "a fraction is not an integer": (
        in_notify('type = "http"\nurl = "x"\norder = 1.5'),
        "credentials.a.notify[0].order: want an integer, got 1.5",
    ),
    "true is not an integer": (
        in_notify('type = "http"\nurl = "x"\nretries = true'),
        "credentials.a.notify[0].retries: want an integer, got true",
    ),
    "1 is not true": (
        in_provider('regions = [{ region_id = "x", vpc = 1 }]'),
        "credentials.a.provider.regions[0].vpc: want true or false, got 1",
    ),
    "an integer that Python would not print": (
        in_provider(f"properties_file = 0x{'f' * 6000}"),
        "credentials.a.provider.properties_file: want an absolute path, got an integer",
    ),
    "a union says what it takes": (
        in_notify('type = "http"\nurl = "x"\nexpect_status = "ok"'),
        'credentials.a.notify[0].expect_status: want an integer or an array, got "ok"',
    ),
    "the arms of a union are judged by shape": (
        two_sinks('type = "env_file"\npath = "/etc/e"\nvariables = { A = "secret" }', 'type = "json"\npath = "/etc/j"'),
        'credentials.a.sinks[0].variables.A: want "access_key_id" or "security_token", got "secret"',
    ),
    "a preset that does not exist": (
        two_sinks('type = "env_file"\npath = "/etc/e"\nvariables = ["osss"]', 'type = "json"\npath = "/etc/j"'),
        'credentials.a.sinks[0].variables[0]: want "alibaba_cloud" or "oss", got "osss"',
    ),
    "a date is no path": (
        in_provider("properties_file = 2026-11-22"),
        "credentials.a.provider.properties_file: want an absolute path, got a date",
    ),
    "a choice lists the choices": (
        '[credentials.a]\nverify = "yes"\n' + GOOD,
        'credentials.a.verify: want "caller_identity" or "off", got "yes"',
    ),
    "false is no choice": (
        "[credentials.a]\nverify = false\n" + GOOD,
        'credentials.a.verify: want "caller_identity" or "off", got false',
    ),
    "many choices name the nearest one": (
        in_notify('type = "systemd"\nunit = "a.service"\naction = "relaod"'),
        'credentials.a.notify[0].action: want "reload", "restart", "try-restart", "reload-or-restart" or "kill",'
        ' got "relaod"; did you mean "reload"?',
    ),
    "a long value is not repeated": (
        f'[credentials.a]\nverify = "{"x" * 21}"\n' + GOOD,
        'credentials.a.verify: want "caller_identity" or "off", got a string',
    ),
    "seconds need a unit": (
        in_provider("poll_interval = 60"),
        'credentials.a.provider.poll_interval: want a duration in quotes with a unit, like "30s", got 60',
    ),
    "an unknown unit": (
        in_provider('poll_interval = "1 hour"'),
        'credentials.a.provider.poll_interval: want a duration in quotes with a unit, like "30s", got "1 hour"',
    ),
    "no duration is negative": (
        in_agent('settle = "-1s"'),
        'agent.settle: want a duration in quotes with a unit, like "30s", got "-1s"',
    ),
    "an empty duration": (
        in_agent('settle = ""'),
        'agent.settle: want a duration in quotes with a unit, like "30s", got ""',
    ),
    "a duration past any sense": (in_agent('settle = "9999d"'), 'agent.settle: want at most "3650d", got "9999d"'),
    "a poll that is no pause": (
        in_provider('poll_interval = "900ms"'),
        'credentials.a.provider.poll_interval: want at least "1s", got "900ms"',
    ),
    "no time to verify": (
        '[credentials.a]\nverify_timeout = "0s"\n' + GOOD,
        'credentials.a.verify_timeout: want at least "1s", got "0s"',
    ),
    "stale at once": (
        '[credentials.a]\nmax_staleness = "0s"\n' + GOOD,
        'credentials.a.max_staleness: want at least "1s", got "0s"',
    ),
    "no time to tell": (
        in_notify('type = "http"\nurl = "x"\ntimeout = "0s"'),
        'credentials.a.notify[0].timeout: want more than "0s", got "0s"',
    ),
    "negative retries": (
        in_notify('type = "http"\nurl = "x"\nretries = -1'),
        "credentials.a.notify[0].retries: want 0 or more, got -1",
    ),
    "a probe without a command": (
        in_notify('type = "http"\nurl = "x"\npickup = { command = [] }'),
        "credentials.a.notify[0].pickup.command: is empty; give the program and its arguments",
    ),
    "a mode as an integer": (
        in_sink("mode = 640"),
        'credentials.a.sinks[0].mode: want an octal string like "0640", got 640',
    ),
    "a mode that is not octal": (
        in_sink('mode = "0649"'),
        'credentials.a.sinks[0].mode: want an octal string like "0640", got "0649"',
    ),
    "a mode that lets everyone in": (
        in_sink('mode = "0644"'),
        "credentials.a.sinks[0].mode: lets everyone in; give the owner and at most the group access,"
        ' such as "0600" or "0640"',
    ),
    "a mode that lets everyone write": (
        in_sink('mode = "0602"'),
        "credentials.a.sinks[0].mode: lets everyone in; give the owner and at most the group access,"
        ' such as "0600" or "0640"',
    ),
    "a mode with a setuid bit": (
        in_sink('mode = "4600"'),
        'credentials.a.sinks[0].mode: want an octal string like "0640", without the setuid, setgid or sticky bit, got "4600"',
    ),
    "a mode that keeps the owner out": (
        in_sink('mode = "0040"'),
        'credentials.a.sinks[0].mode: does not let the owner read; want "0600" or "0640"',
    ),
    "a relative path": (
        in_provider('properties_file = "etc/x"'),
        "credentials.a.provider.properties_file: want an absolute path",
    ),
    "a path by a variable of the shell": (
        in_provider('properties_file = "$HOME/x"'),
        "credentials.a.provider.properties_file: want an absolute path; to use the variable write ${HOME}",
    ),
    "a variable that is not set": (
        in_provider('properties_file = "${NOWHERE}/x"'),
        "credentials.a.provider.properties_file: the environment variable NOWHERE is not set;"
        " set it for keyturn, or write the path out",
    ),
    "a variable that is empty": (
        in_provider('properties_file = "${EMPTY}/x"'),
        "credentials.a.provider.properties_file: the environment variable EMPTY is empty;"
        " set it for keyturn, or write the path out",
    ),
    "a variable that holds no absolute path": (
        in_provider('properties_file = "${RELATIVE}/x"'),
        "credentials.a.provider.properties_file: want an absolute path, and the variable at its beginning holds none",
    ),
    "a variable that does not end": (
        in_provider('properties_file = "/x/${HOME"'),
        'credentials.a.provider.properties_file: has a "${" that no variable name and "}" follow; want "${NAME}"',
    ),
    "a path with a NUL": (
        in_provider('properties_file = "/x\\u0000y"'),
        "credentials.a.provider.properties_file: has a control character in the path",
    ),
    "what a settings class says itself": (
        in_provider('properties_file = "/x"\nregions = [{ region_id = "x" }]'),
        "credentials.a.provider.regions: stands in properties_file already; give one of both",
    ),
    "an endpoint with a scheme": (
        in_cloud('sts_endpoint = "https://sts.aliyuncs.com"'),
        'cloud.sts_endpoint: want "host" or "host:port" without a scheme: it is always https',
    ),
    "an endpoint with a path": (
        in_cloud('kms_endpoint = "kms.aliyuncs.com/x"'),
        'cloud.kms_endpoint: want "host" or "host:port", such as "sts-vpc.cn-hangzhou.aliyuncs.com", got "kms.aliyuncs.com/x"',
    ),
    "an endpoint with an impossible port": (
        in_cloud('ram_endpoint = "ram.aliyuncs.com:65536"'),
        'cloud.ram_endpoint: want "host" or "host:port", such as "sts-vpc.cn-hangzhou.aliyuncs.com"',
    ),
    "a region that would make another host": (
        in_cloud('region_id = "x.evil.example/"'),
        'cloud.region_id: want the id of a region, such as "cn-hangzhou", got "x.evil.example/"',
    ),
    "metrics without a port": (
        in_agent('metrics_listen = "127.0.0.1"'),
        'agent.metrics_listen: want "host:port", such as "127.0.0.1:9464", got "127.0.0.1"',
    ),
    "an unknown owner": (
        in_sink('owner = "nobody-here"'),
        'credentials.a.sinks[0].owner: there is no user "nobody-here"; create it, or name another',
    ),
    "an unknown group": (
        in_sink('group = "nobody-here"'),
        'credentials.a.sinks[0].group: there is no group "nobody-here"; create it, or name another',
    ),
    "an unknown user of a hook": (
        in_notify('type = "exec"\ncommand = ["/x"]\nuser = "nobody-here"'),
        'credentials.a.notify[0].user: there is no user "nobody-here"; create it, or name another',
    ),
    "no credentials at all": ("", "credentials: there is none; add a table [credentials.NAME]"),
    "an empty table of credentials": ("[credentials]\n", "credentials: there is none; add a table [credentials.NAME]"),
    "credentials that are no table": ("credentials = 1\n", "credentials: want a table, got 1"),
    "a name with a blank": (
        GOOD.replace("credentials.a", 'credentials."a b"'),
        'credentials."a b": want a name of up to 64 letters, digits, dots, dashes and underscores',
    ),
    "a name that climbs": (
        GOOD.replace("credentials.a", 'credentials."../x"'),
        'credentials."../x": want a name of up to 64 letters, digits, dots, dashes and underscores',
    ),
    "a credential that goes nowhere": (
        PROVIDER,
        "credentials.a: has no sink, and no other credential uses it; add [[credentials.a.sinks]]",
    ),
    "a base that is not defined": (
        GOOD + role("b", '"aa"'),
        'credentials.b.provider.base: no credential is named "aa"; did you mean "a"?',
    ),
    "a base like none": (
        GOOD + role("b", '"xyz"'),
        'credentials.b.provider.base: no credential is named "xyz"; name a table [credentials.NAME] of this file',
    ),
    "a base that is the credential itself": (
        role("b", '"b"'),
        "credentials.b.provider.base: is this credential itself; name another one",
    ),
    "bases in a circle": (
        role("b", '"c"') + role("c", '"d"') + role("d", '"b"'),
        "credentials.b.provider.base: builds on itself (b -> c -> d -> b); break the circle",
    ),
    "a base inside an inline base": (
        role("b", '{ type = "ram_role_arn", role_arn = "x", base = "nowhere" }'),
        'credentials.b.provider.base.base: no credential is named "nowhere"; name a table [credentials.NAME] of this file',
    ),
    "an authority that is not defined": (
        GOOD + '[credentials.a.emergency]\nauthority = "nowhere"\n',
        'credentials.a.emergency.authority: no credential is named "nowhere"; name a table [credentials.NAME] of this file',
    ),
    "an authority that is the credential itself": (
        GOOD + '[credentials.a.emergency]\nauthority = "a"\n',
        "credentials.a.emergency.authority: is this credential itself; name another one",
    ),
    "an authority that is neither": (
        GOOD + "[credentials.a.emergency]\nauthority = 5\n",
        "credentials.a.emergency.authority: want a table or a string, got 5",
    ),
    "the same file twice": (
        two_sinks('type = "json"\npath = "/etc/x"', 'type = "json"\npath = "/etc/./y/..//x"'),
        "credentials.a.sinks[1].path: /etc/x is already written by credentials.a.sinks[0]; give it another path",
    ),
    "the same profile twice": (
        two_sinks('type = "credentials_ini"\npath = "/etc/x"', 'type = "credentials_ini"\npath = "/etc/x"'),
        "credentials.a.sinks[1].path: [default] of /etc/x is already written by credentials.a.sinks[0];"
        " give it another path",
    ),
    "the same variable twice": (
        two_sinks(
            'type = "env_file"\npath = "/etc/x"\nvariables = ["oss"]',
            'type = "env_file"\npath = "/etc/x"\nvariables = { OSS_ACCESS_KEY_ID = "access_key_id" }',
        ),
        "credentials.a.sinks[1].path: OSS_ACCESS_KEY_ID of /etc/x is already written by credentials.a.sinks[0];"
        " give it another path",
    ),
    "a file that another sink owns whole": (
        two_sinks('type = "credentials_ini"\npath = "/etc/x"', 'type = "json"\npath = "/etc/x"'),
        "credentials.a.sinks[1].path: /etc/x is already written by credentials.a.sinks[0]; give it another path",
    ),
    "a sink over the audit log": (
        GOOD + '[agent.audit]\npath = "/etc/a.json"\n',
        "credentials.a.sinks[0].path: /etc/a.json is already written by agent.audit.path; give it another path",
    ),
    "metrics over the audit log": (
        in_agent('metrics_textfile = "/var/log/keyturn/audit.jsonl"'),
        "agent.metrics_textfile: /var/log/keyturn/audit.jsonl is already written by agent.audit.path; give it another path",
    ),
    "one file with two modes": (
        two_sinks(
            'type = "credentials_ini"\npath = "/etc/x"',
            'type = "credentials_ini"\npath = "/etc/x"\nprofile = "b"\nmode = "0640"',
        ),
        'credentials.a.sinks[1].mode: "0640" differs from "0600" of credentials.a.sinks[0], which writes the same file;'
        " give both the same",
    ),
}


@pytest.mark.parametrize(("text", "sentence"), ONE_PROBLEM.values(), ids=ONE_PROBLEM)
def test_each_mistake_has_its_sentence(text: str, sentence: str) -> None:
    """One mistake makes one line, which names the place and says what to do."""
    assert problems(text) == [sentence]


NOT_TOML = {
    "no value": (
        b"[agent]\nsettle =\n",
        "keyturn.toml: line 2, column 9: not valid TOML: invalid value; mend that line",
    ),
    "a table twice": (
        b"[agent]\n[agent]\n",
        "keyturn.toml: line 2, column 7: not valid TOML: cannot declare ('agent',) twice; mend that line",
    ),
    "no end": (
        b'x = "',
        "keyturn.toml: end of document: not valid TOML: unterminated string; mend that line",
    ),
    "Latin-1": (b"# a\n# caf\xe9\n", "keyturn.toml: line 2 is not UTF-8; save the file as UTF-8"),
    "too many brackets": (
        b"x = " + b"[" * 5000 + b"]" * 5000,
        "keyturn.toml: is nested more than 32 levels deep; no key of keyturn is",
    ),
    "too many dots": (
        b"x" + b".x" * 5000 + b" = 1",
        "keyturn.toml: is nested more than 32 levels deep; no key of keyturn is",
    ),
    "too large": (
        b"#" * (1024 * 1024 + 1),
        "keyturn.toml: is larger than 1 MiB, which no config of keyturn is; name the config file with --config",
    ),
}


@pytest.mark.parametrize(("text", "sentence"), NOT_TOML.values(), ids=NOT_TOML)
def test_what_is_not_toml_is_told_where(text: bytes, sentence: str) -> None:
    """A text that is no TOML is one line with the line and column, whatever the parser stumbled over."""
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert caught.value.problems == (sentence,)


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

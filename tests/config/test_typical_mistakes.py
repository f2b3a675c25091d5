"""The slips that people make in a config: each has a sentence that mends it when it is typed as it stands."""

from __future__ import annotations

import pytest

from agent.app.wiring import registry
from agent.core.errors import ConfigError
from tests.support.golden import Golden
from tests.support.settings import ENVIRON, read

PROVIDER = """\
[credentials.uploader.provider]
type = "kms_secret"
secret_name = "uploader-ak"
properties_file = "/etc/keyturn/secretsmanager.properties"
"""
SINK = """\
[[credentials.uploader.sinks]]
type = "credentials_ini"
path = "/etc/uploader/credentials.ini"
"""
NOTIFY = """\
[[credentials.uploader.notify]]
type = "systemd"
unit = "uploader.service"
"""
GOOD = PROVIDER + SINK + NOTIFY


def without(line: str) -> str:
    """The good config without one of its lines."""
    assert line in GOOD
    return GOOD.replace(line + "\n", "", 1)


def with_line(line: str, instead_of: str = "", below: str = "") -> str:
    """The good config with one line of another kind."""
    where = instead_of or below
    assert where in GOOD
    return GOOD.replace(where, f"{below}\n{line}" if below else line, 1)


PATH = 'path = "/etc/uploader/credentials.ini"'
UNIT = 'unit = "uploader.service"'
SECRET = 'secret_name = "uploader-ak"'
INI = 'type = "credentials_ini"'

MISTAKES = {
    "a mode without quotes": with_line("mode = 0600", below=PATH),
    "a mode as a number": with_line("mode = 640", below=PATH),
    "a mode in octal": with_line("mode = 0o640", below=PATH),
    "a mode as ls shows it": with_line('mode = "rw-r-----"', below=PATH),
    "a mode for everyone": with_line('mode = "0644"', below=PATH),
    "seconds without a unit": with_line("poll_interval = 60", below=SECRET),
    "a duration in words": with_line('poll_interval = "5 minutes"', below=SECRET),
    "a duration with a fraction": with_line('poll_interval = "1.5h"', below=SECRET),
    "a duration in weeks": GOOD + '[agent]\nsettle = "1w"\n',
    "a path in the home directory": with_line('path = "~/.alibabacloud/credentials"', instead_of=PATH),
    "a relative path": with_line('path = "etc/credentials.ini"', instead_of=PATH),
    "a path below nothing": with_line('path = "credentials.ini"', instead_of=PATH),
    "a variable of the shell": with_line('path = "$HOME/credentials.ini"', instead_of=PATH),
    "a variable that is not set": with_line('path = "${RUN_DIR}/credentials.ini"', instead_of=PATH),
    "an unknown preset": GOOD
    + '[[credentials.uploader.sinks]]\ntype = "env_file"\npath = "/e"\nvariables = ["aliyun"]\n',
    "a preset without brackets": GOOD
    + '[[credentials.uploader.sinks]]\ntype = "env_file"\npath = "/e"\nvariables = "oss"\n',
    "an unknown user": with_line('owner = "uplaoder"', below=PATH),
    "a user that is not there": with_line('owner = "webapp"', below=PATH),
    "one table for several": GOOD.replace("[[credentials.uploader.sinks]]", "[credentials.uploader.sinks]"),
    "several tables for one": GOOD.replace("[credentials.uploader.provider]", "[[credentials.uploader.provider]]"),
    "credentials misspelt": GOOD.replace("[credentials.", "[credential.").replace("[[credentials.", "[[credential."),
    "sinks in the singular": GOOD.replace(".sinks]]", ".sink]]"),
    "notify in the plural": GOOD.replace(".notify]]", ".notifiers]]"),
    "a key of another provider": with_line('role_arn = "acs:ram::1:role/x"', below=SECRET),
    "a key of another sink": with_line('variables = ["oss"]', below=PATH),
    "a key of another notifier": with_line('signal = "SIGHUP"\ncommand = ["/bin/x"]', below=UNIT),
    "a key of the credential in its provider": with_line('verify = "off"', below=SECRET),
    "a key of the provider in the credential": '[credentials.uploader]\npoll_interval = "60s"\n' + GOOD,
    "a key of the agent at the top": 'log_level = "debug"\n' + GOOD,
    "a misspelt key": with_line('pol_interval = "60s"', below=SECRET),
    "a misspelt type": with_line('type = "credential_ini"', instead_of=INI),
    "a type of another tool": with_line('type = "file"', instead_of=INI),
    "no type": without(INI),
    "no path": without(PATH),
    "no secret's name": without(SECRET),
    "no provider": SINK,
    "no sink": PROVIDER,
    "the provider as a word": '[credentials.uploader]\nprovider = "kms_secret"\n' + SINK,
    "the sinks as words": '[credentials.uploader]\nsinks = ["credentials_ini"]\n' + PROVIDER,
    "a command as a string": GOOD + '[[credentials.uploader.notify]]\ntype = "exec"\ncommand = "/bin/kill -HUP 1"\n',
    "a user without brackets": GOOD + '[credentials.uploader.serve]\nusers = "uploader"\n',
    "yes in quotes": '[credentials.uploader]\ncanary = "yes"\n' + GOOD,
    "a number in quotes": with_line('retries = "3"', below=UNIT),
    "an action in capitals": with_line('action = "Reload"', below=UNIT),
    "regions as words": with_line('regions = ["cn-hangzhou"]', instead_of=PROVIDER.splitlines()[3]),
    "an endpoint with a scheme": GOOD + '[cloud]\nsts_endpoint = "https://sts.cn-hangzhou.aliyuncs.com"\n',
    "a port alone": GOOD + "[agent]\nmetrics_listen = 9464\n",
    "metrics on every address": GOOD + '[agent]\nmetrics_listen = ":9464"\n',
    "a secret in the config": with_line('client_key_password = "Xy7#kk21"', below=SECRET),
    "a base that is misspelt": GOOD
    + '[credentials.b.provider]\ntype = "ram_role_arn"\nrole_arn = "acs:ram::1:role/x"\nbase = "uplaoder"\n'
    + SINK.replace("uploader", "b"),
    "a name with a blank": GOOD.replace("credentials.uploader", 'credentials."my uploader"'),
    "the same file twice": GOOD + SINK,
    "text without quotes": with_line("type = credentials_ini", instead_of=INI),
    "a path without quotes": with_line("path = /etc/uploader/credentials.ini", instead_of=PATH),
    "True as in Python": "[credentials.uploader]\ncanary = True\n" + GOOD,
    "a quote forgotten": with_line('path = "/etc/uploader/credentials.ini', instead_of=PATH),
    "a bracket forgotten": GOOD.replace(".sinks]]", ".sinks]"),
    "a colon for an equals sign": with_line('path: "/etc/uploader/credentials.ini"', instead_of=PATH),
    "a table twice": GOOD + PROVIDER,
    "a key twice": with_line(SECRET, below=SECRET),
    "a backslash": with_line('path = "C:\\uploader\\credentials.ini"', instead_of=PATH),
    "an array without commas": GOOD + '[[credentials.uploader.notify]]\ntype = "exec"\ncommand = ["/bin/kill" "1"]\n',
    "an inline table over two lines": with_line('regions = [{ region_id = "x",\n vpc = true }]', below=SECRET),
    "two statements in a line": with_line(f"{INI} path = 1", instead_of=INI),
    "a comment like C's": "// the config\n" + GOOD,
    "nothing but a comment": "# to be written\n",
}


def said_of(text: str) -> str:
    """What a terminal shows of a mistake."""
    with pytest.raises(ConfigError) as caught:
        read(text, registry=registry(), environ=ENVIRON)
    error = caught.value
    assert len(error.mistakes) == len(error.problems)
    return "\n".join(line for mistake in error.mistakes for line in (str(mistake), mistake.excerpt) if line)


def test_each_mistake_has_the_sentence_that_mends_it(golden: Golden) -> None:
    """Read them all in tests/golden/messages.txt when they change; a mistake has one sentence, unless it is two."""
    said = {name: said_of(text) for name, text in MISTAKES.items()}
    golden("mistake", said)
    several = {name for name, text in said.items() if text.count("keyturn.toml") > 1}
    assert several == {"a key of another notifier"}


def test_the_good_config_is_good() -> None:
    """So each mistake is the only one."""
    assert read(GOOD, registry=registry(), environ=ENVIRON).credentials.keys() == {"uploader"}

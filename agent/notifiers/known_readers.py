"""The known readers of each sink: when each client reads again, and whether news without a restart can move it.

`READERS` is the one table of it. docs/consumers.md is this table for people, and a test compares the two; `check` says it of
the sinks of a config, in a line for each; and a notification that leaves the process as it is, is judged by it. What is marked
`RUN` is held by tests/sinks/formats/test_readers.py or was run with the versions named; what is marked `READ` was read
in the client's source, at the place named, and not run here.

A credential that has one sink which is read again gets the benefit of the doubt: nobody knows which of its sinks the
dependent reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from agent.core.problem import Problem
from agent.notifiers.interface import NoEffect, Pickup


class Again(StrEnum):
    """When a client that runs reads again."""

    ONCE = "never"
    """Once for each client object, or for each process."""
    EACH_CALL = "at each call"
    """Each call, command or run: news are not needed."""
    IN_TIME = "before the expiry that it was told"
    """It asks keyturn again, by a command or a URI, so keyturn decides when."""
    LATER = "later, by itself"
    BROKEN = "it cannot: broken upstream"


class Known(StrEnum):
    """The way in which a line of the table is known."""

    RUN = "run"
    READ = "read"


@dataclass(frozen=True, slots=True)
class Reader:
    """One client and one of its sources.

    Attributes:
        client: its name, as after "the": "SDK for Python".
        versions: the first and the last version of which this is known.
        source: one of `Sink.formats`, or `credential_process`, which is no sink.
        again: when it reads again.
        known: run, or read in its source.
        where: the place in its source; where it was run, what else there is to say.
    """

    client: str
    versions: str
    source: str
    again: Again
    known: Known
    where: str = ""

    @property
    def since(self) -> str:
        """The first version of which this is known."""
        return self.versions.split()[0]


EXTERNAL = "aliyun_cli External"
_PYTHON, _NODE, _GO = "SDK for Python", "SDK for Node", "SDK for Go"
_JAVA, _CSHARP, _PHP = "SDK for Java", "SDK for C#", "SDK for PHP"
_CLI = "Alibaba's CLI"
_URI = "credentials_uri"

READERS = (
    # `keyturn credential NAME`, run again 180 s before the expiry that it named; ossfs: 20 minutes, looks every 15 s
    Reader(_PYTHON, "1.0.9 to 1.0.12", EXTERNAL, Again.IN_TIME, Known.RUN),
    Reader(_NODE, "2.4.5 to 2.4.7", EXTERNAL, Again.IN_TIME, Known.RUN),
    Reader(_GO, "1.4.10 to 1.4.12", EXTERNAL, Again.IN_TIME, Known.READ, "credentials/providers/external.go:163-178"),
    Reader(_JAVA, "1.0.4 to 1.0.6", EXTERNAL, Again.IN_TIME, Known.READ, "ExternalCredentialsProvider.java:29,142-149"),
    Reader(_CSHARP, "1.5.3", EXTERNAL, Again.IN_TIME, Known.READ, "Provider/ExternalCredentialProvider.cs:19,240"),
    Reader(_CLI, "3.4.11", EXTERNAL, Again.EACH_CALL, Known.READ, "config/profile.go:590-625"),
    Reader(
        "ossfs", "2.0.7", "credential_process", Again.IN_TIME, Known.READ, "src/credentials/creds_provider.cpp:46-83"
    ),
    # a credentials URI: asked again 15 minutes before the expiry that it named, Go and C++ 180 s, oss2 at 15 % of it
    Reader(_PYTHON, "1.0.0 to 1.0.12", _URI, Again.IN_TIME, Known.RUN),
    Reader(_NODE, "2.4.2 to 2.4.7", _URI, Again.IN_TIME, Known.RUN, "sessions only: it refuses an empty token"),
    Reader(_GO, "1.4.12", _URI, Again.IN_TIME, Known.RUN, "built from source"),
    Reader(_JAVA, "1.0.6", _URI, Again.IN_TIME, Known.RUN, "built from source"),
    Reader(_PHP, "1.2.3", _URI, Again.IN_TIME, Known.RUN),
    Reader("oss2", "2.19.1", _URI, Again.IN_TIME, Known.RUN, "`EcsRamRoleCredentialsProvider(auth_host=URI)`"),
    Reader("ossutil", "1.7.20", _URI, Again.IN_TIME, Known.RUN, "`ecsAk = URI` in `[AkService]`; built from source"),
    Reader(_CLI, "3.4.11", _URI, Again.EACH_CALL, Known.READ, "config/profile.go:627-677"),
    Reader(_CSHARP, "1.5.3", _URI, Again.BROKEN, Known.READ, "Provider/URLCredentialProvider.cs:155-212"),
    # config.json with the keys in it
    Reader(_PYTHON, "1.0.0 to 1.0.12", "aliyun_cli", Again.ONCE, Known.RUN),
    Reader(_NODE, "2.4.0 to 2.4.7", "aliyun_cli", Again.ONCE, Known.RUN),
    Reader(_GO, "1.4.12", "aliyun_cli", Again.ONCE, Known.READ, "credentials/providers/cli_profile.go:259-282"),
    Reader(_JAVA, "1.0.6", "aliyun_cli", Again.ONCE, Known.READ, "CLIProfileCredentialsProvider.java:51-66"),
    Reader(_CSHARP, "1.5.3", "aliyun_cli", Again.ONCE, Known.READ, "Provider/CLIProfileCredentialsProvider.cs:302"),
    Reader(_PHP, "1.2.3", "aliyun_cli", Again.ONCE, Known.READ, "src/Providers/CLIProfileCredentialsProvider.php:159"),
    Reader(_CLI, "3.4.11", "aliyun_cli", Again.EACH_CALL, Known.READ, "config/configuration.go:192"),
    Reader("Terraform", "any", "aliyun_cli", Again.EACH_CALL, Known.READ, "alicloud/provider.go"),
    # credentials.ini
    Reader(_JAVA, "1.0.6", "credentials_ini", Again.EACH_CALL, Known.READ, "ProfileCredentialsProvider.java:22-43"),
    Reader(
        _CSHARP, "1.5.3", "credentials_ini", Again.EACH_CALL, Known.READ, "Provider/ProfileCredentialsProvider.cs:21-48"
    ),
    Reader(_PYTHON, "0.3.6 to 1.0.12", "credentials_ini", Again.ONCE, Known.RUN),
    Reader(_NODE, "2.3.1 to 2.4.7", "credentials_ini", Again.ONCE, Known.RUN),
    Reader(_GO, "1.4.12", "credentials_ini", Again.ONCE, Known.READ, "credentials/providers/profile.go:123-141"),
    Reader(
        _PHP, "1.2.3", "credentials_ini", Again.ONCE, Known.READ, "src/Providers/ProfileCredentialsProvider.php:153"
    ),
    # the environment
    Reader("every process", "any", "env_file", Again.ONCE, Known.RUN, "systemd.exec(5), docker-run(1)"),
    # a file of keys that one's own function reads
    Reader(
        "OSS SDK for Python 2",
        "1.4.1",
        "json",
        Again.EACH_CALL,
        Known.RUN,
        "`CredentialsProviderFunc` that reads the file",
    ),
    # other programs
    Reader("ossutil", "1.7", "ini", Again.EACH_CALL, Known.READ, "lib/command.go"),
    Reader("OSS SDK for Java", "3", "ini", Again.LATER, Known.READ, "auth/ProfileCredentialsProvider.java"),
)

ENVIRONMENT = frozenset({"env_file"})
READ_ONCE = ENVIRONMENT | {"credentials_ini", "aliyun_cli"}
"""The sinks that the SDK for Python, which most applications use, and those like it read once."""


def of_sink(source: str) -> str:
    """Return in one line which clients read a sink's file again, and which do not; "" where nothing is known."""
    found = [one for one in READERS if one.source == source]
    said = (
        (Again.IN_TIME, "asked again in time by"),
        (Again.EACH_CALL, "read again at each call by"),
        (Again.LATER, "read again later by"),
        (Again.ONCE, "read once by"),
        (Again.BROKEN, "not to be used by"),
    )
    return "; ".join(f"{words} {names}" for again, words in said if (names := _names(found, again)))


def _names(found: list[Reader], again: Again) -> str:
    clients = [one for one in found if one.again is again]
    sdks = [one.client.removeprefix("SDK for ") + _from(one) for one in clients if one.client.startswith("SDK for ")]
    others = [one.client.replace("OSS SDK", "the OSS SDK") for one in clients if not one.client.startswith("SDK for ")]
    return _listed([*([f"the SDKs for {_listed(sdks)}"] if sdks else []), *others])


def _from(reader: Reader) -> str:
    return f" (from {reader.since})" if reader.source == EXTERNAL else ""


def _listed(words: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def of_a_kept_process(sink_types: frozenset[str], environment: Problem, remedy: str) -> NoEffect | None:
    """What stands in the way of news that does not start the process anew; None: nothing that is known.

    Args:
        sink_types: the types of the credential's sinks.
        environment: the reason why its environment stays as it is, with a remedy.
        remedy: how to restart the process instead.
    """
    if sink_types == ENVIRONMENT:
        return NoEffect(environment, Pickup.NOT_PICKED_UP)
    if sink_types and sink_types <= READ_ONCE:
        exempt = _names([one for one in READERS if one.source in sink_types], Again.EACH_CALL)
        return NoEffect(
            Problem(
                "most of Alibaba's SDKs read the file once for each client, so a process that runs keeps the old key; "
                f"only {exempt} read it at each call",
                f"{remedy}, unless the program is one of these or makes a new client when it is told, which a "
                "`pickup` command can show; "
                "or let it ask keyturn, without a restart (docs/consumers.md)",
            ),
            Pickup.ASSUMED,
        )
    return None

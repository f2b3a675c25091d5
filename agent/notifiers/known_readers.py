"""The known readers of each sink: whether telling them without a restart can make them use a new value.

As measured, with the versions of 2026 (tests/sinks/formats/test_consumers.py):

* `env_file`: a process has the environment that it was started with; systemd reads an EnvironmentFile= only then
  (systemd.exec(5)), docker an --env-file when it creates the container.
* `credentials_uri`: its line stays as it is, and a process that has read it asks the endpoint for the value: no news is needed.
* `credentials_ini`, `aliyun_cli`: alibabacloud_credentials 0.3.6 to 1.0.12 reads them once for each client. (The
  aliyun CLI and Terraform read theirs each time, and are no process that anybody would tell.)
* everything else is read by programs that read it again: ossutil each time, one's own application when it is told.

A credential that has one sink of the last kind gets the benefit of the doubt: nobody knows which of its sinks the
dependent reads.
"""

from __future__ import annotations

from agent.core.problem import Problem
from agent.notifiers.interface import NoEffect, Pickup

ENVIRONMENT = frozenset({"env_file"})
READ_ONCE = ENVIRONMENT | {"credentials_ini", "aliyun_cli"}


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
        return NoEffect(
            Problem(
                "Alibaba's Python SDK reads the file once for each client, so a process that runs keeps the old key",
                f"{remedy}, unless the program makes a new client when it is told",
            ),
            Pickup.ASSUMED,
        )
    return None

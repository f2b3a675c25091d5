"""The errors of the board, made of those of redis-py: where it is, what is wrong, what helps; no argument of a command."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from redis import exceptions

from agent.core.errors import KeyturnError, NotPermittedError, SourceUnavailableError
from agent.logs.log import log

P = ParamSpec("P")
T = TypeVar("T")


class FleetError(SourceUnavailableError):
    """The error that the board cannot be had now: what the fleet does is not known."""


class FleetRefusedError(NotPermittedError):
    """The error that the server of the board does not let this host do it."""


def translated(method: Callable[P, T]) -> Callable[P, T]:
    """Return a method of the board whose errors are keyturn's.

    A subclass of `redis.ConnectionError` may be a refusal (AuthenticationError is one), so refusals come first. What is none of
    redis-py's own is what its parser or ours made of an answer that no Redis gives. Whatever it was, the next command connects
    anew: a server that has become a replica refuses for ever, and answers that are out of step stay so.
    """

    @functools.wraps(method)
    def asked(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return _reconnecting(method, *args, **kwargs)
        except KeyturnError:
            raise
        except (exceptions.AuthenticationError, exceptions.AuthorizationError) as error:
            raise FleetRefusedError(
                f"fleet: the server does not accept this host's user or password ({_said(error)})",
                "mend `username` and `password_from_file_path` of [fleet]",
            ) from None
        except exceptions.NoPermissionError as error:
            raise FleetRefusedError(
                f"fleet: the server does not let this host's user do it ({_said(error)})",
                "give that user the rules of docs/fleet.md",
            ) from None
        except exceptions.ResponseError as error:
            raise FleetError(
                f"fleet: the server refused a command ({_said(error)})", "see its log; what it must be: docs/fleet.md"
            ) from None
        except (exceptions.RedisError, OSError) as error:
            raise FleetError(
                f"fleet: the board cannot be reached ({_said(error)})",
                "see that the Redis or Tair of [fleet] runs, and that this host may connect to it",
            ) from None
        except Exception as error:
            log.debug("an answer of the fleet's board", error=type(error).__name__)
            raise FleetError(
                f"fleet: the server gave an answer that is none of Redis ({type(error).__name__})",
                "see that `url` of [fleet] names a Redis or Tair",
            ) from None

    return asked


def _reconnecting(method: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    try:
        return method(*args, **kwargs)
    except Exception:
        args[0].disconnect()  # type: ignore[attr-defined]  # the board
        raise


def _said(error: Exception) -> str:
    """What it says, without the arguments of the command: Redis repeats those that it does not know, a password among them."""
    said = " ".join(str(error).split()).partition(" with args")[0]
    return said[:200].rstrip(",") or type(error).__name__

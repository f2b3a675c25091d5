"""What is said of a server's refusal has no argument of the command in it."""

from __future__ import annotations

import pytest
from redis import exceptions

from agent.fleet.errors import FleetError, translated


class Refusing:
    """A board whose server knows no AUTH, as where that command is renamed."""

    def disconnect(self) -> None:
        """Do nothing: there is no connection."""

    @translated
    def ask(self) -> None:
        raise exceptions.ResponseError("unknown command 'AUTH', with args beginning with: 'keyturn' 'the-password' ")


def test_a_server_that_repeats_the_password_has_it_said_nowhere(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(FleetError) as caught:
        Refusing().ask()
    assert "AUTH" in str(caught.value) and "the-password" not in str(caught.value)
    assert "the-password" not in "".join(capfd.readouterr())

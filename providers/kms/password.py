"""The password of a ClientKey, looked up as the official client does, with one difference.

That client (aliyun-secret-manager-client 0.1.5, `client_key_utils.get_password`) also tries the *name* in the variable
`client_key_password_from_env_variable` as the password itself, so a typo ends in an error that misleads. Here a name is
only a name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agent.core.errors import CredentialFileError
from agent.core.secret import Secret
from agent.core.suspects import variable_name
from agent.system.files import read_private
from providers.static_parts import text_of

LIMIT_BYTES = 4 * 1024
PASSWORD_VARIABLE = "client_key_password"
NAME_VARIABLE = "client_key_password_from_env_variable"
FILE_VARIABLE = "client_key_password_from_file_path"


@dataclass(frozen=True, slots=True)
class PasswordSource:
    """The places of the password, in the order in which they are tried.

    Attributes:
        variable: the name of an environment variable.
        file: a path.
        later: another variable, read after the file (`passwordFromEnvVariable` of a dedicated instance). What it holds is
            the password, or the name of the variable that holds it.
        inline: the password itself (`client_key_password` of a properties file).
        otherwise: the source to try last. A source that has one belongs to one instance, so the environment's
            `client_key_password_from_env_variable` is left to the last one.
    """

    variable: str | None = None
    file: str | None = None
    later: str | None = None
    inline: Secret | None = None
    otherwise: PasswordSource | None = None

    def read(self, environ: Mapping[str, str]) -> Secret:
        """Return the password.

        Raises:
            CredentialFileError: there is none; the text names the variable or file.
            NotPermittedError: the agent's user may not read the file.
        """
        found = self._find(environ) or (self.otherwise and self.otherwise._find(environ))
        if not found:
            raise self._missing(environ)
        return found

    @property
    def files(self) -> tuple[str, ...]:
        """The files that `read` may look into."""
        return tuple(filter(None, (self.file, self.otherwise.file if self.otherwise else None)))

    def _find(self, environ: Mapping[str, str]) -> Secret | None:
        general = None if self.file or self.otherwise else environ.get(NAME_VARIABLE)
        found = _first(environ, self.variable, general)
        if not found and self.file:
            return Secret(text_of(self.file, read_private(self.file, LIMIT_BYTES, environ)))
        return found or self._named_later(environ) or self.inline or _first(environ, PASSWORD_VARIABLE)

    def _named_later(self, environ: Mapping[str, str]) -> Secret | None:
        """Return what `later` leads to.

        The plug-ins for Go and Java document `client_key_password_from_env_variable`, which holds a name, and those for
        Python a variable that holds the password. A name is never tried as the password.
        """
        held = environ.get(self.later or "", "")
        if self.later == NAME_VARIABLE or held in environ:
            return _first(environ, held)
        return Secret(held) if held else None

    def _missing(self, environ: Mapping[str, str]) -> CredentialFileError:
        """Return the error for a password that is nowhere. It names keys only: a name that is none may be the password."""
        key = NAME_VARIABLE if self.variable else "passwordFromEnvVariable" if self.later else ""
        name = self.variable or self.later
        if self.later == NAME_VARIABLE and environ.get(NAME_VARIABLE) and not self.variable:
            key, name = f"the environment's {NAME_VARIABLE}", environ[NAME_VARIABLE]
        if name and variable_name(name) is None:
            return CredentialFileError(
                f"what {key} holds is no name of an environment variable",
                "write the variable's name there, never the password",
            )
        if name:
            return CredentialFileError(
                f"the environment variable that {key} names, for the ClientKey's password, is not set",
                "set it for keyturn, or name the file with the password",
            )
        return CredentialFileError(
            "the ClientKey's password is given nowhere",
            "name its file by client_key_password_from_file_path, or its variable by "
            "client_key_password_from_env_variable",
        )


def _first(environ: Mapping[str, str], *names: str | None) -> Secret | None:
    """Return the value of the first of these variables that has one."""
    return next((Secret(environ[name]) for name in names if name and environ.get(name)), None)

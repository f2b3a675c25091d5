"""keyturn's provider `json_file`: the id and the secret that another tool keeps in a JSON file."""

import json
from dataclasses import dataclass

from agent.core.credential import Credential
from agent.core.errors import BadAnswerError
from agent.core.provider import Provider
from agent.core.secret import Secret
from agent.core.settings import FilePath, ProviderSettings


@dataclass(frozen=True, kw_only=True)
class JsonFileSettings(ProviderSettings):
    """The keys of [credentials.NAME.provider]."""

    path: FilePath


class JsonFile(Provider):
    """Read anew at each poll; whether the answer can be a credential is judged by fetch(), for every provider."""

    type_name, Settings = "json_file", JsonFileSettings

    def _fetch(self, timeout_s):
        try:
            with open(self.settings.path, encoding="utf-8") as file:
                found = json.load(file)
            return Credential(access_key_id=found["id"], access_key_secret=Secret(found["secret"]))
        except (OSError, ValueError, LookupError, TypeError) as error:
            why = f"{self.settings.path} gives no id and secret ({type(error).__name__})"
            # `from None`: a decoder's exception holds what it read.
            raise BadAnswerError(f"credentials.{self.context.credential}: {why}", "look at that file") from None

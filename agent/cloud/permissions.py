"""What a call takes, in RAM's words: whoever is refused it learns which action to grant, to whom, and on what.

The name of an action is that of the call after the product's code: "In most cases, actions are in the kms:<api-name> format"
(KMS, "Use RAM to control access to KMS resources"); RAM's and STS's are listed in "Authorization information" of RAM. Only
GetSecretValue takes a second one, kms:Decrypt on the key that encrypts the secret (KMS, GetSecretValue). What each identity
of a config needs is in agent/ram_policy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agent.core.client_keys import CLIENT_KEY

_KMS, _RAM, _STS = "kms", "ram", "sts"
_PRODUCTS = {
    "AssumeRole": _STS,
    "CreateAccessKey": _RAM,
    "DeleteAccessKey": _RAM,
    "DescribeSecret": _KMS,
    "GetAccessKeyLastUsed": _RAM,
    "GetSecretValue": _KMS,
    "ListAccessKeys": _RAM,
    "ListSecretVersionIds": _KMS,
    "RotateSecret": _KMS,
    "UpdateAccessKey": _RAM,
}
_PRINTED = "`keyturn policy` prints all that it needs"


@dataclass(frozen=True, slots=True)
class Asked:
    """A call as it was made: its name, what it was about, and the key id that signed."""

    call: str
    params: Mapping[str, str]
    access_key_id: str

    def remedy(self, denied: str = "", *, explicitly: bool = False) -> str | None:
        """Return what to grant; None for a call that no grant helps.

        Args:
            denied: the action that the service itself named as the missing one.
            explicitly: whether it said that a Deny stands in the way.
        """
        if self.access_key_id.startswith(CLIENT_KEY):
            return (
                f"let the permission policy of {self.access_key_id}'s application access point name {self._about()}, and its "
                f"network rule this host's address; {_PRINTED}"
            )
        product = _PRODUCTS.get(self.call)
        if product is None:
            return None
        action = denied or f"{product}:{self.call}"
        if explicitly:
            return f"remove what denies {action} to {self.access_key_id} in RAM; {_PRINTED}"
        rest = " and kms:Decrypt on the key that encrypts it" if action == "kms:GetSecretValue" else ""
        about = "the key that encrypts " * (action == "kms:Decrypt") + self._about()
        return f"grant {self.access_key_id} the RAM action {action} on {about}{rest}; {_PRINTED}"

    def _about(self) -> str:
        if name := self.params.get("SecretName"):
            return f"secret {name}"
        return self.params.get("RoleArn") or f"user {self.params.get('UserName') or 'that it belongs to'}"

"""The actions of the API: who may call them, and what their functions are given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from .cloud import Cloud
from .errors import ApiError, missing_parameter
from .model import AccessKey, Caller, ClientKey, RsaKeyPair, Session, User
from .policies import resource_of

__all__ = ["ENCRYPTION_KEY_ID", "Asked", "Json", "Operation", "check_access_point"]

Json = dict[str, object]

ENCRYPTION_KEY_ID = "00000000-0000-0000-0000-000000000000"
"""The key of KMS that encrypts every secret here."""


@dataclass(frozen=True)
class Asked:
    """An authenticated, permitted request, as the functions of the products see it. An anonymous one has no caller."""

    cloud: Cloud
    caller: Caller | None
    parameters: Mapping[str, str]

    def need(self, name: str) -> str:
        """Return a mandatory parameter."""
        value = self.parameters.get(name)
        if not value:
            raise missing_parameter(name)
        return value

    def number(self, name: str, default: int) -> int:
        """Return an optional parameter that is a positive number."""
        text = self.parameters.get(name) or str(default)
        if not (text.isdecimal() and len(text) < 10 and int(text) > 0):
            raise ApiError(400, "InvalidParameter", f"The specified parameter {name} is not valid.")
        return int(text)

    def target_user(self) -> str:
        """Return the user meant by `UserName`; without it, the caller (RAM doc), which a role is not."""
        if name := self.parameters.get("UserName"):
            return self.cloud.user(name).name
        principal = None if self.caller is None else self.cloud.principal_of(self.caller)
        if not isinstance(principal, User):
            raise missing_parameter("UserName")
        return principal.name


@dataclass(frozen=True)
class Operation:
    """One action of one product.

    Attributes:
        permission: the permission that a RAM identity needs; None where every identity may call it.
        client_keys: whether ClientKeys may call it.
        key_pairs: whether it is for RSA key pairs, and for nobody else.
        anonymous: whether nobody signs; what the caller presents are parameters.
    """

    product: str
    version: str
    permission: str | None
    answer: Callable[[Asked], Json]
    client_keys: bool = False
    key_pairs: bool = False
    anonymous: bool = False

    def admit(self, cloud: Cloud, caller: Caller, parameters: Mapping[str, str]) -> None:
        """Refuse a caller that may not do this, with the code that this product uses (403).

        A key that is restricted as leaked is refused all of RAM and IMS, and neither STS nor KMS, whose operations are not on the
        list of "Restrictive protection for compromised AccessKey pairs" (RAM doc). Undocumented, and so decided here:
        the code is `Forbidden`, as the page's sentence begins; it comes before a missing permission; sessions that the
        key made are not restricted.
        """
        if isinstance(caller, AccessKey) and caller.restricted and self.product in ("ram", "ims"):
            raise ApiError(403, "Forbidden", "There is a risk of leakage of this AccessKey.")
        if isinstance(caller, ClientKey):
            if not self.client_keys:
                raise ApiError(403, "Forbidden.NoPermission", "This operation is forbidden for a ClientKey.")
            check_access_point(caller, parameters)
        elif isinstance(caller, RsaKeyPair) is not self.key_pairs:
            raise self._refusal("This operation does not fit the kind of the access key.")
        elif isinstance(caller, Session) and caller.revoked:
            raise self._refusal("The policies of the role were detached.")
        elif self.permission:
            self._ask_policies(cloud, caller, self.permission, parameters)

    def _ask_policies(self, cloud: Cloud, caller: Caller, permission: str, parameters: Mapping[str, str]) -> None:
        """Refuse what no policy allows, or one denies.

        To read a secret takes `kms:Decrypt` on its key too (KMS, GetSecretValue). That is asked of documents alone: whoever
        was just named actions has all that these take.
        """
        principal = cloud.principal_of(caller)
        if principal is None:
            raise self._refusal("No RAM identity.")
        needed = [(permission, self._resource(cloud, parameters, principal.name))]
        if permission == "kms:GetSecretValue" and principal.policies:
            needed.append(("kms:Decrypt", f"acs:kms:{cloud.region_id}:{cloud.account_id}:key/{ENCRYPTION_KEY_ID}"))
        for action, resource in needed:
            if denied := cloud.denial(principal, action, resource):
                raise self._refusal(f"You are not authorized to do this action. Action: {action}", action, denied)

    def _resource(self, cloud: Cloud, parameters: Mapping[str, str], caller: str) -> str:
        return resource_of(cloud.region_id, cloud.account_id, self.product, parameters, caller)

    def _refusal(self, message: str, action: str = "", denied: str = "") -> ApiError:
        """Return the refusal of this product.

        RAM and STS say what was missing in `AccessDeniedDetail` (RAM, DecodeDiagnosticMessage, and the models of newer SDKs);
        whether KMS does is documented nowhere, so here it does not.
        """
        if self.product == "kms":
            return ApiError(403, "Forbidden.RAM", message)
        detail = {"AuthAction": action, "NoPermissionType": denied, "PolicyType": "AccountLevelIdentityBasedPolicy"}
        return ApiError(403, "NoPermission", message, detail if action else None)


def check_access_point(caller: ClientKey, parameters: Mapping[str, str]) -> None:
    """Refuse a ClientKey a secret that the rules of its access point do not name (403 Forbidden.NoPermission)."""
    name = parameters.get("SecretName", "").rpartition(":secret/")[2]
    if not caller.may_read(name):
        raise ApiError(
            403, "Forbidden.NoPermission", "The permission policy of the application access point forbids it."
        )

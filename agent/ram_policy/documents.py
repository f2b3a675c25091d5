"""RAM's form of what an identity may do, and the identity that it is for.

RAM, "Policy structure and syntax": `Version` is "1"; a statement has `Effect`, `Action`, `Resource` and perhaps `Condition`. A
role's trust policy has `Principal` instead of `Resource` (RAM, "Edit the trust policy of a RAM role").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

PLACEHOLDERS = {
    "<ACCOUNT_ID>": "the id of the Alibaba Cloud account: `aliyun sts GetCallerIdentity`, or the top right corner of the console",
    "<KMS_KEY_ID>": "the key that encrypts the secret: EncryptionKeyId of `aliyun kms DescribeSecret --SecretName NAME`",
    "<RAM_USER>": "the RAM user of this secret: `ram_user_name`, or the secret's page in the KMS console",
    "<USER_OF_THE_KEY>": "the RAM user to whom the AccessKey belongs: the RAM console finds users by AccessKey id",
    "<ROLE>": "the RAM role: of an instance, `aliyun ecs DescribeInstanceRamRole`; else its page in the RAM console",
    "<OIDC_PROVIDER>": "the OIDC provider: RAM console, SSO, Role-based SSO",
    "<OIDC_ISSUER>": "the claim iss of the token, and the issuer's URL of the OIDC provider",
    "<OIDC_AUDIENCE>": "the claim aud of the token, a client id of the OIDC provider",
    "<OIDC_SUBJECT>": "the claim sub of the token, in Kubernetes system:serviceaccount:NAMESPACE:NAME",
    "<HOST_ADDRESS>": "the address by which this host reaches KMS, as KMS sees it",
    "<SLS_PROJECT>": "the project of Simple Log Service: SLS console",
    "<SLS_LOGSTORE>": "the Logstore for the audit log: SLS console",
}
"""What the config cannot know, and how to find it."""


@dataclass(frozen=True, slots=True)
class Grant:
    """One action on one resource, and what it is for.

    Attributes:
        action: such as "kms:RotateSecret".
        resource: an ARN.
        use: of the action here, for who reads the policy.
        only_for: the option of a command without which it is not needed; "" for always.
    """

    action: str
    resource: str
    use: str
    only_for: str = ""


@dataclass(slots=True)
class Identity:
    """Somebody who signs calls of this config.

    Attributes:
        name: who that is.
        used_by: the keys of the config that use it.
        grants: what it must be allowed.
        access_point: the permission policies of a ClientKey's application access point.
        trusts: the statements of a role's trust policy.
        notes: what to know besides.
    """

    name: str
    used_by: list[str] = field(default_factory=list)
    grants: list[Grant] = field(default_factory=list)
    access_point: list[Json] = field(default_factory=list)
    trusts: list[Json] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def use(self, place: str, *grants: Grant) -> None:
        """Add a key of the config that uses it, and what that needs."""
        self.used_by += [place] * (place not in self.used_by)
        self.grants += [one for one in grants if one not in self.grants]

    def trust(self, principal: Json, condition: Json | None = None) -> None:
        """Let a principal assume this role."""
        statement: Json = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": principal}
        if condition:
            statement["Condition"] = condition
        self.trusts += [statement] * (statement not in self.trusts)

    def note(self, text: str) -> None:
        """Add a note, once."""
        self.notes += [text] * (text not in self.notes)

    @property
    def options(self) -> list[str]:
        """The options that need more than the policy itself."""
        return list(dict.fromkeys(one.only_for for one in self.grants if one.only_for))

    def policy(self, only_for: str = "") -> Json | None:
        """Return what it must be allowed, for an option or always; None where that is nothing."""
        return document([one for one in self.grants if one.only_for == only_for])

    @property
    def trust_policy(self) -> Json | None:
        """The trust policy of a role; None where nothing is known of it."""
        return {"Version": "1", "Statement": self.trusts} if self.trusts else None

    def as_json(self) -> Json:
        """Return the object of `keyturn policy --json`."""
        return {
            "identity": self.name,
            "used_by": self.used_by,
            "policy": self.policy(),
            "only_for": {option: self.policy(option) for option in self.options},
            "access_point": self.access_point,
            "trust_policy": self.trust_policy,
            "uses": {grant.action: grant.use for grant in self.grants},
            "notes": self.notes,
        }


def document(grants: Sequence[Grant]) -> Json | None:
    """Return a policy with one statement for each resource; None for no grant."""
    resources = dict.fromkeys(one.resource for one in grants)
    statements = [
        {
            "Effect": "Allow",
            "Action": list(dict.fromkeys(one.action for one in grants if one.resource == resource)),
            "Resource": resource,
        }
        for resource in resources
    ]
    return {"Version": "1", "Statement": statements} if statements else None


def placeholders_in(text: str) -> dict[str, str]:
    """Return the placeholders that a text names, with how each is found."""
    return {name: how for name, how in PLACEHOLDERS.items() if name in text}

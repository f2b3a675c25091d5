"""RAM policy documents and rules of application access points: what they let their holders do.

Form and evaluation: RAM, "Policy structure and syntax" and "Policy elements" (`Version` is "1"; `Effect`, `Action` or
`NotAction`, `Resource`, `Condition`; a Deny goes before every Allow; what no statement allows is refused; `*` and `?` are
wildcards; case does not count in an action). Resources of calls: KMS, "Use RAM to control access to KMS resources"; RAM,
"RAM authorization". The rule of an access point: KMS, CreatePolicy (`Permissions`, `Resources`, which may end in `*`).

What a document says that this module does not know is refused when it is attached, so that no test passes for what was
never looked at.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

__all__ = ["SECRET_USER", "AccessRule", "Policy", "Trust", "resource_of", "verdict"]

SECRET_USER = "RbacPermission/Template/SecretUser"
"""The permission to read secrets through the shared gateway (KMS, "Use AAP for access control")."""

Tests = dict[str, Callable[[str, str], bool]]
_OPERATORS: Tests = {
    "StringEquals": lambda given, wanted: given == wanted,
    "StringNotEquals": lambda given, wanted: given != wanted,
    "StringLike": lambda given, wanted: _fits(wanted, given),
    "Bool": lambda given, wanted: given.lower() == wanted.lower(),
    "DateLessThan": lambda given, wanted: _moment(given) < _moment(wanted),
    "DateGreaterThan": lambda given, wanted: _moment(given) > _moment(wanted),
}
_Conditions = tuple[tuple[str, str, tuple[str, ...]], ...]
"""Operator, key and values, one of which has to fit."""
_STATEMENT_KEYS = {"Effect", "Action", "NotAction", "Resource", "Condition"}


@dataclass(frozen=True)
class _Statement:
    deny: bool
    actions: tuple[str, ...]
    but_these: bool
    resources: tuple[str, ...]
    conditions: _Conditions

    def covers(self, action: str, resource: str, context: Mapping[str, str]) -> bool:
        named = any(_fits(pattern.lower(), action.lower()) for pattern in self.actions)
        return (
            named is not self.but_these
            and any(_fits(pattern, resource) for pattern in self.resources)
            and _hold(self.conditions, context)
        )


@dataclass(frozen=True)
class Policy:
    """One document, as it is attached to a user or a role."""

    statements: tuple[_Statement, ...]

    @classmethod
    def parse(cls, document: str | Mapping[str, Any]) -> Policy:
        """Read a document.

        Raises:
            ValueError: it is none, or says what the emulator does not know.
        """
        return cls(tuple(_statement(each) for each in _said(document)))


def verdict(policies: Sequence[Policy], action: str, resource: str, context: Mapping[str, str]) -> str:
    """Return "" where a call may be made, else how it is denied, as RAM names it: ExplicitDeny or ImplicitDeny.

    Args:
        policies: everything that is attached to the caller.
        action: such as "kms:RotateSecret".
        resource: the ARN that the call is about; "*" where it is about none.
        context: condition key -> value of this call.
    """
    speaking = [each for policy in policies for each in policy.statements if each.covers(action, resource, context)]
    if any(each.deny for each in speaking):
        return "ExplicitDeny"
    return "" if speaking else "ImplicitDeny"


@dataclass(frozen=True)
class AccessRule:
    """The permission policy of an application access point, for the ClientKeys of that point.

    Attributes:
        permission: an RBAC permission; only `SECRET_USER` is known.
        resources: such as "secret/uploader-ak", or "secret/*".
    """

    permission: str
    resources: tuple[str, ...]

    def __post_init__(self) -> None:
        """Refuse a permission that the emulator does not know."""
        if self.permission != SECRET_USER:
            raise ValueError(f"want {SECRET_USER}")

    def opens(self, secret: str) -> bool:
        """Return whether the secret of this name may be read."""
        return any(_fits(pattern, f"secret/{secret}") for pattern in self.resources)


@dataclass(frozen=True)
class Trust:
    """The trust policy of a role: who may assume it (RAM, "Edit the trust policy of a RAM role").

    Attributes:
        statements: kind of the principal ("RAM", "Service" or "Federated"), its names, and conditions.
    """

    statements: tuple[tuple[str, tuple[str, ...], _Conditions], ...]

    @classmethod
    def parse(cls, document: str | Mapping[str, Any]) -> Trust:
        """Read a trust policy.

        Raises:
            ValueError: it is none, or says what the emulator does not know.
        """
        found = []
        for said in _said(document):
            if not set(said) <= {"Effect", "Action", "Principal", "Condition"} or said["Effect"] != "Allow":
                raise ValueError("want statements of Effect Allow, Action, Principal and Condition")
            if _texts(said["Action"]) != ("sts:AssumeRole",):
                raise ValueError("want the Action sts:AssumeRole")
            for kind, names in said["Principal"].items():
                if kind not in ("RAM", "Service", "Federated"):
                    raise ValueError("want a Principal of RAM, Service or Federated")
                found.append((kind, _texts(names), _conditions(said)))
        return cls(tuple(found))

    def admits(self, kind: str, name: str, context: Mapping[str, str]) -> bool:
        """Return whether somebody may assume the role; an account's `root` stands for everybody in it."""
        root = re.sub(r":(user|role)/.*", ":root", name)
        return any(
            kind == one and {name, root} & set(names) and _hold(conditions, context)
            for one, names, conditions in self.statements
        )


def resource_of(region_id: str, account_id: str, product: str, parameters: Mapping[str, str], caller: str) -> str:
    """Return the ARN that a call is about; "*" where it is about nothing that has one.

    Args:
        region_id: whose secrets they are.
        account_id: whose users and roles they are.
        product: of the action.
        parameters: of the call.
        caller: the user who is meant where a call of RAM names none.
    """
    if product == "kms" and (name := parameters.get("SecretName")):
        return name if name.startswith("acs:kms:") else f"acs:kms:{region_id}:{account_id}:secret/{name}"
    if product == "sts" and (role := parameters.get("RoleArn")):
        return role.replace("acs:ram::", "acs:ram:*:", 1)
    user = parameters.get("UserName") or caller
    if product == "ims":  # the calls about the recycle bin name no user's resource (IMS, "Authorization information")
        user = parameters.get("UserPrincipalName", "").partition("@")[0]
    return f"acs:ram:*:{account_id}:user/{user}" if product in ("ram", "ims") and user else "*"


def _statement(said: Any) -> _Statement:
    if not isinstance(said, Mapping) or not said.keys() <= _STATEMENT_KEYS or "Resource" not in said:
        raise ValueError(f"want a statement of {', '.join(sorted(_STATEMENT_KEYS))}")
    if said["Effect"] not in ("Allow", "Deny") or ("Action" in said) is ("NotAction" in said):
        raise ValueError("want Effect Allow or Deny, and either Action or NotAction")
    actions = _texts(said.get("Action", said.get("NotAction")))
    # The region of a role's or user's ARN is empty or a star in Alibaba's own examples; both mean the same.
    resources = tuple(
        one.replace("acs:ram::", "acs:ram:*:", 1) if one.startswith("acs:ram::") else one
        for one in _texts(said["Resource"])
    )
    return _Statement(said["Effect"] == "Deny", actions, "NotAction" in said, resources, _conditions(said))


def _said(document: str | Mapping[str, Any]) -> list[Any]:
    parsed = json.loads(document) if isinstance(document, str) else document
    if not isinstance(parsed, Mapping) or set(parsed) != {"Version", "Statement"} or parsed["Version"] != "1":
        raise ValueError('want an object of Version "1" and Statement')
    return list(parsed["Statement"])


def _conditions(said: Mapping[str, Any]) -> _Conditions:
    found = tuple(
        (operator, key, _texts(values))
        for operator, keys in said.get("Condition", {}).items()
        for key, values in keys.items()
    )
    for operator, _key, _values in found:
        if operator not in _OPERATORS:
            raise ValueError(f"want a condition of {', '.join(_OPERATORS)}, not {operator}")
    return found


def _hold(conditions: _Conditions, context: Mapping[str, str]) -> bool:
    return all(
        any(key in context and _OPERATORS[operator](context[key], value) for value in values)
        for operator, key, values in conditions
    )


def _texts(said: Any) -> tuple[str, ...]:
    found = (said,) if isinstance(said, str) else tuple(said)
    if not found or not all(isinstance(one, str) for one in found):
        raise ValueError("want a text or a list of texts")
    return found


def _fits(pattern: str, text: str) -> bool:
    """Return whether a text fits a pattern of `*` and `?`; brackets are no wildcards in RAM, so this is not fnmatch."""
    wanted = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(wanted, text, re.DOTALL) is not None


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)

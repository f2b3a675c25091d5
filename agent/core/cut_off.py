"""What cuts a role off: the policy that denies it everything, and the commands that attach it and take it away again.

RAM has no condition on when a session was issued, so nothing tells old sessions from new ones (docs/adr/0021). The actions and
parameters are those of RAM 2015-05-01 (alibabacloud-ram20150501 1.3.0), which Alibaba's CLI takes as they are.
"""

from __future__ import annotations

import re

DENY_ALL = '{"Version": "1", "Statement": [{"Effect": "Deny", "Action": "*", "Resource": "*"}]}'
_ASSUMED = re.compile(r"acs:ram::[0-9]+:assumed-role/(?P<role>[A-Za-z0-9._-]{1,64})/.+")


def role_in(arn: str) -> str:
    """Return the name of the role in the ARN of one of its sessions, "" for any other ARN (STS, GetCallerIdentity)."""
    found = _ASSUMED.fullmatch(arn)
    return found["role"] if found else ""


def cutting_off(role: str) -> tuple[str, str]:
    """Return the commands that deny a role everything from now on, all its sessions included."""
    policy = _policy(role)
    return (
        f"aliyun ram CreatePolicy --PolicyName {policy} --PolicyDocument '{DENY_ALL}'",
        f"aliyun ram AttachPolicyToRole --PolicyType Custom --PolicyName {policy} --RoleName {role}",
    )


def letting_back(role: str) -> tuple[str, str]:
    """Return the commands that take it away again."""
    policy = _policy(role)
    return (
        f"aliyun ram DetachPolicyFromRole --PolicyType Custom --PolicyName {policy} --RoleName {role}",
        f"aliyun ram DeletePolicy --PolicyName {policy}",
    )


def _policy(role: str) -> str:
    """The policy's name, which has letters, digits and hyphens only (RAM, CreatePolicy)."""
    return f"keyturn-cut-off-{re.sub('[._]', '-', role)}"

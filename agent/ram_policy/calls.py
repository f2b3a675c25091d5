"""The grants for what keyturn does, with the sources of actions and ARNs.

* KMS: `kms:<api-name>` on `acs:kms:${region}:${account}:secret/${secret-name}`, `kms:Decrypt` on `…:key/${key-id}` (KMS, "Use RAM
  to control access to KMS resources"). GetSecretValue of a RAM identity takes both (KMS, GetSecretValue).
* RAM: `ram:CreateAccessKey`, `ram:UpdateAccessKey`, `ram:DeleteAccessKey`, `ram:ListAccessKeys`, `ram:GetAccessKeyLastUsed` on
  `acs:ram:*:<account-id>:user/<user-name>` (RAM and IMS, "Authorization information"; the same form in "Authorize a RAM user to
  manage AccessKey pairs").
* STS: `sts:AssumeRole` on `acs:ram:*:<account-id>:role/<role-name>` (RAM, "FAQ about RAM roles and STS tokens", which role a
  user can assume).
  GetCallerIdentity and AssumeRoleWithOIDC take no permission.
* Access points: RBAC permission `SecretUser` for the shared gateway, `CryptoServiceSecretUser` for an instance, resources as
  `secret/${SecretName}` (KMS, "Use AAP for access control" and CreatePolicy; the scope "shared" as the Terraform resource
  alicloud_kms_policy names it).
* Simple Log Service: writing is `log:PostLogStoreLogs`, on
  `acs:log:{#regionId}:{#accountId}:project/{#ProjectName}/logstore/{#LogstoreName}` (SLS, "RAM authorization"); by the Kafka
  protocol also `log:GetProject`, `log:GetLogStore` and `log:ListShards` (SLS, "Use the Kafka protocol to upload logs"). All of
  them know the condition key `log:TLSVersion`, whose values no page says.
"""

from __future__ import annotations

from agent.ram_policy.documents import Grant, Json

ACCOUNT = "<ACCOUNT_ID>"
_LOGSTORE = "project/<SLS_PROJECT>/logstore/<SLS_LOGSTORE>"


def read_secret(secret_name: str, region_id: str) -> tuple[Grant, Grant]:
    """Return what reading a secret takes."""
    secret = secret_arn(secret_name, region_id)
    where = secret.partition(":secret/")[0]
    return (
        Grant("kms:GetSecretValue", secret, "read the secret"),
        Grant("kms:Decrypt", f"{where}:key/<KMS_KEY_ID>", "read the secret: KMS decrypts it with this key"),
    )


def rotate_secret(secret_name: str, region_id: str) -> Grant:
    """Return what `keyturn rotate` takes at KMS."""
    return Grant("kms:RotateSecret", secret_arn(secret_name, region_id), "rotate: a new key at once")


def foresee(secret_name: str, region_id: str, user: str) -> tuple[Grant, ...]:
    """Return what the calls take that only look, for `keyturn plan` and the prompt of `keyturn rotate`."""
    return (
        Grant("kms:DescribeSecret", secret_arn(secret_name, region_id), "plan: see the secret"),
        Grant(
            "ram:ListAccessKeys",
            user_arn(user),
            "plan: see the user's keys, of which there may be two; rotate: name a third",
        ),
        Grant("ram:GetAccessKeyLastUsed", user_arn(user), "plan: see when the key was used last"),
    )


def end_old_key(user: str) -> tuple[Grant, ...]:
    """Return what `keyturn rotate --disable-old` takes at RAM, and `--delete-old` besides."""
    arn = user_arn(user)
    return (
        Grant("ram:UpdateAccessKey", arn, "rotate --disable-old: set the old key inactive"),
        Grant("ram:DeleteAccessKey", arn, "rotate --delete-old: delete the old key", only_for="rotate --delete-old"),
    )


def rotate_user(user: str) -> tuple[Grant, ...]:
    """Return what the rotation of a RAM user's own keys takes, and `keyturn adopt`."""
    arn = user_arn(user)
    return (
        Grant("ram:ListAccessKeys", arn, "rotate the user: see its keys, of which there may be two"),
        Grant("ram:GetAccessKeyLastUsed", arn, "rotate the user: see whether the key before rests"),
        Grant("ram:CreateAccessKey", arn, "rotate the user: make the next key"),
        Grant("ram:UpdateAccessKey", arn, "rotate the user: disable the key before"),
        Grant("ram:DeleteAccessKey", arn, "rotate the user: delete it later"),
    )


def see_own_keys(user: str) -> Grant:
    """Return what the canary takes to be sure whether RAM restricted a key (docs/canary.md)."""
    return Grant("ram:ListAccessKeys", user_arn(user), "canary: RAM refuses it to a key that is restricted as leaked")


def assume(role_arn: str) -> Grant:
    """Return what AssumeRole takes of its caller; policies name a role with a star for the region, which its ARN leaves empty."""
    return Grant("sts:AssumeRole", role_arn.replace("acs:ram::", "acs:ram:*:", 1), "assume the role")


def secret_rule(secret_name: str, *, instance: str | None = None, vpc: bool = False) -> Json:
    """Return the permission policy of an application access point, in the words of the KMS console.

    Args:
        secret_name: the secret that is read.
        instance: the endpoint of a dedicated instance; None for the shared gateway.
        vpc: whether the region's VPC gateway is asked.
    """
    bare = secret_name.partition(":secret/")[2] or secret_name
    return {
        "Scope": instance or "shared",
        "RBAC permissions": "SecretUser" if instance is None else "CryptoServiceSecretUser",
        "Accessible resources": [f"secret/{bare}"],
        "Network access rule": {
            "Network type": "Private" if instance is not None else "VPC" if vpc else "Public",
            "Allowed source IP addresses": ["<HOST_ADDRESS>"],
        },
    }


def write_logs(region_id: str) -> Grant:
    """Return what a collector takes that writes through the API of Simple Log Service."""
    return Grant("log:PostLogStoreLogs", f"acs:log:{region_id}:{ACCOUNT}:{_LOGSTORE}", "write the audit log")


def write_logs_by_kafka(region_id: str) -> tuple[Grant, ...]:
    """Return what a collector takes that writes through the Kafka protocol of Simple Log Service."""
    logstore = f"acs:log:{region_id}:{ACCOUNT}:{_LOGSTORE}"
    return (
        Grant("log:GetProject", logstore.partition("/logstore/")[0], "the Kafka protocol: find the project"),
        Grant("log:GetLogStore", logstore, "the Kafka protocol: find the topic"),
        Grant("log:ListShards", logstore, "the Kafka protocol: find the partitions"),
        write_logs(region_id),
    )


def secret_arn(secret_name: str, region_id: str) -> str:
    """Return the ARN of a secret; its account is known where the config names the ARN."""
    return secret_name if secret_name.startswith("acs:kms:") else f"acs:kms:{region_id}:{ACCOUNT}:secret/{secret_name}"


def user_arn(user: str) -> str:
    """Return the ARN of a RAM user as policies name it."""
    return f"acs:ram:*:{ACCOUNT}:user/{user}"

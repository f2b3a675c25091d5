"""Which types have which keys, for "it belongs to type ..." alone: to import them all would cost the daemon 11 MB and 0.7 s.

tests/config/test_keys_of_types.py compares it with the types. What other packages bring is not in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

KEYS: Mapping[str, Mapping[str, Sequence[str]]] = {
    "provider": {
        "access_key_id_from_file_path": (
            "access_key",
            "sts",
        ),
        "access_key_id_from_env_variable": (
            "access_key",
            "sts",
        ),
        "access_key_secret_from_file_path": (
            "access_key",
            "sts",
        ),
        "access_key_secret_from_env_variable": (
            "access_key",
            "sts",
        ),
        "bearer_token_from_file_path": ("bearer",),
        "bearer_token_from_env_variable": ("bearer",),
        "credentials_uri": ("credentials_uri",),
        "role_name": ("ecs_ram_role",),
        "imds_v1": ("ecs_ram_role",),
        "metadata_endpoint": ("ecs_ram_role",),
        "secret_name": ("kms_secret",),
        "poll_interval": (
            "kms_secret",
            "ram_user",
        ),
        "version_stage": ("kms_secret",),
        "properties_file": ("kms_secret",),
        "client_key_private_key_path": ("kms_secret",),
        "client_key_password_from_file_path": ("kms_secret",),
        "client_key_password_from_env_variable": ("kms_secret",),
        "regions": ("kms_secret",),
        "ca_file": ("kms_secret",),
        "fields": ("kms_secret",),
        "role_session_name": (
            "oidc_role_arn",
            "ram_role_arn",
        ),
        "policy": (
            "oidc_role_arn",
            "ram_role_arn",
        ),
        "role_session_expiration": (
            "oidc_role_arn",
            "ram_role_arn",
        ),
        "sts_endpoint": (
            "oidc_role_arn",
            "ram_role_arn",
            "rsa_key_pair",
        ),
        "role_arn": (
            "oidc_role_arn",
            "ram_role_arn",
        ),
        "oidc_provider_arn": ("oidc_role_arn",),
        "oidc_token_file_path": ("oidc_role_arn",),
        "command": ("process",),
        "timeout": ("process",),
        "base": ("ram_role_arn",),
        "external_id": ("ram_role_arn",),
        "ram_user_name": ("ram_user",),
        "authority": ("ram_user",),
        "owner": ("ram_user",),
        "every": ("ram_user",),
        "disable_after": ("ram_user",),
        "delete_after": ("ram_user",),
        "between": ("ram_user",),
        "time_zone": ("ram_user",),
        "ram_endpoint": ("ram_user",),
        "public_key_id": ("rsa_key_pair",),
        "private_key_file": ("rsa_key_pair",),
        "session_period": ("rsa_key_pair",),
        "security_token_from_file_path": ("sts",),
        "security_token_from_env_variable": ("sts",),
        "expiration_from_file_path": ("sts",),
        "expiration_from_env_variable": ("sts",),
    },
    "sink": {
        "profile": (
            "credentials_ini",
            "aliyun_cli",
        ),
        "variables": ("env_file",),
        "dialect": (
            "env_file",
            "credentials_uri",
        ),
        "keys": ("ini",),
        "section": ("ini",),
        "profile_mode": ("aliyun_cli",),
        "region_id": ("aliyun_cli",),
        "source": ("template",),
        "files": ("directory",),
        "keep": ("directory",),
    },
    "notifier": {
        "signal": (
            "signal",
            "systemd",
        ),
        "pid_file": ("signal",),
        "exe": ("signal",),
        "user": (
            "signal",
            "exec",
        ),
        "unit": ("systemd",),
        "action": ("systemd",),
        "command": ("exec",),
        "url": ("http",),
        "expect_status": ("http",),
    },
}

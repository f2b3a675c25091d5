"""The AccessKeys of a RAM user whom keyturn rotates itself, where there is no KMS (docs/ram_user.md)."""

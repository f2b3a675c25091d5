"""Secrets of KMS: the provider `kms_secret` with its gateways, identities and settings."""

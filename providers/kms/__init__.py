"""Secrets of KMS: the provider kms_secret, its gateways, its identities and its settings."""

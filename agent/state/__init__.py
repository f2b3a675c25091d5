"""What is remembered over a restart: one small file per credential, never a secret."""

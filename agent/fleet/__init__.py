"""A fleet: hosts that share secrets tell each other of a rotation, and prove that they have followed it (docs/fleet.md)."""

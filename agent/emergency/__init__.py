"""The operator's rotation: at the source, to every dependent, and the end of the old key."""

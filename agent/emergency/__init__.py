"""`keyturn rotate`: a new key at the source, to every dependent, and the end of the old key."""

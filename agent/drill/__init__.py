"""`keyturn rotate --drill`: the emergency of this host's config, played against the emulator."""

"""Values and rules: standard library only, no I/O, no clock. Whatever depends on time takes it as an argument."""

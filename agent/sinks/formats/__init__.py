"""What the files hold: one module for each type of sink."""

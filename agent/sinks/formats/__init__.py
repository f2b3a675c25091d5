"""The formats of the files: one module for each type of sink."""

"""What stops a build."""


class BuildError(Exception):
    """One sentence that says what is wrong, then a remedy."""

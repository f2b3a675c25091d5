"""What a value that does not fit is refused with. By itself, since commands read durations without judging a config."""


class Unfit(ValueError):
    """A value does not fit. The text is the sentence without the place."""

"""A rule that cannot be read is an error of its own: it refuses, and says so."""


class BadRule(ValueError):
    """The rule is not one that this version understands."""

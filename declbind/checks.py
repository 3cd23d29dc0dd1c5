"""System checks."""


def install() -> None:
    """Register the checks."""

"""Let the processes of a fault test load what breaks them."""

from django.apps import AppConfig


class FaultsConfig(AppConfig):
    """Hold the one bound model."""

    name = "tests.faults"
    label = "faults"

    def ready(self) -> None:
        """Put in the crash point and the sabotage that the environment names; neither is the rule."""
        from . import crashes, sabotage

        sabotage.install()
        crashes.install()

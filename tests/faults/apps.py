"""Let the processes of a fault test load what breaks them."""

import os

from django.apps import AppConfig


class FaultsConfig(AppConfig):
    """Hold the one bound model."""

    name = "tests.faults"
    label = "faults"

    def ready(self) -> None:
        """Put in the crash point, the sabotage and the haste that the environment names; none is the rule."""
        from declbind.outbound import relay

        from . import crashes, sabotage

        relay.TRIM_SECONDS = float(os.environ.get("FAULTS_TRIM_SECONDS", relay.TRIM_SECONDS))
        sabotage.install()
        crashes.install()

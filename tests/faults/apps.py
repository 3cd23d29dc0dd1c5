"""The app config that loads deliberate faults into the processes of a fault test."""

import os

from django.apps import AppConfig


class FaultsConfig(AppConfig):
    """The app of the bound models."""

    name = "tests.faults"
    label = "faults"

    def ready(self) -> None:
        """Install the crash point, the sabotage and the short timeouts that the environment names, if any."""
        from declbind.outbound import relay

        from . import crashes, sabotage

        relay.TRIM_SECONDS = float(os.environ.get("FAULTS_TRIM_SECONDS", relay.TRIM_SECONDS))
        sabotage.install()
        crashes.install()

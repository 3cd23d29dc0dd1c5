"""The app config that loads a deliberate fault into the server."""

from django.apps import AppConfig


class FuzzingConfig(AppConfig):
    """The app of the site's models."""

    name = "tests.attack.fuzzing"
    label = "fuzzing"

    def ready(self) -> None:
        """Install the sabotage that the environment names, if any."""
        from . import sabotage

        sabotage.install()

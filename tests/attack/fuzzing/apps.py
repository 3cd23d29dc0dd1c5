"""Let the server of a siege load what breaks it."""

from django.apps import AppConfig


class FuzzingConfig(AppConfig):
    """Hold the models of the site."""

    name = "tests.attack.fuzzing"
    label = "fuzzing"

    def ready(self) -> None:
        """Put in the sabotage that the environment names; none is the rule."""
        from . import sabotage

        sabotage.install()

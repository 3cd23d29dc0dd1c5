"""The app config, which connects the receivers of a peer if that peer is the contender."""

from django.apps import AppConfig

from . import contenders


class BenchmarksConfig(AppConfig):
    """The app with the measured model. It has no migrations: tables are made by `migrate --run-syncdb`."""

    name = "tests.benchmarks"
    label = "benchmarks"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        if contenders.current() in contenders.HANDWRITTEN:
            from . import handwritten

            handwritten.connect()
        elif contenders.current() in contenders.OBSERVERS:
            from . import observed  # noqa: F401 - the consumer's class connects its observer's receivers

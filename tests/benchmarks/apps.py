"""Connect the receivers of a peer where it is the contender, and nowhere else."""

from django.apps import AppConfig

from . import contenders


class BenchmarksConfig(AppConfig):
    """The application with the measured model; it has no migrations: tables are made by `migrate --run-syncdb`."""

    name = "tests.benchmarks"
    label = "benchmarks"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        if contenders.current() in contenders.HANDWRITTEN:
            from . import handwritten

            handwritten.connect()
        elif contenders.current() in contenders.OBSERVERS:
            from . import observed  # noqa: F401 - the consumer's class connects its observer's receivers

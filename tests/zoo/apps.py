from django.apps import AppConfig


class ZooConfig(AppConfig):
    """Install the models without migrations: the test database makes their tables as they stand."""

    name = "tests.zoo"
    label = "zoo"

from django.apps import AppConfig


class ZooConfig(AppConfig):
    """The app of the models, without migrations: the test database creates their tables as they are."""

    name = "tests.zoo"
    label = "zoo"

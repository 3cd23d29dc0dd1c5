from django.apps import AppConfig


class PostgresZooConfig(AppConfig):
    """The app of the models, which have a migration: one of their types is an extension of the database."""

    name = "tests.postgres_zoo"
    label = "postgres_zoo"

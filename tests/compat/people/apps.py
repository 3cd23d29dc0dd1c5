"""The app config of the custom user model."""

from django.apps import AppConfig


class PeopleConfig(AppConfig):
    """An app without migrations: its table is made by `migrate --run-syncdb`."""

    name = "tests.compat.people"
    label = "people"
    default_auto_field = "django.db.models.BigAutoField"

"""The configuration of the app."""

from django.apps import AppConfig


class NotesConfig(AppConfig):
    """Notes, with the label that the documentation uses."""

    name = "tests.docs.notes"
    label = "notes"
    default_auto_field = "django.db.models.BigAutoField"

"""The app, which adds a serializer when it is ready."""

from django.apps import AppConfig

from declbind.serializers import register_serializer


class NotesConfig(AppConfig):
    """Notes of users."""

    name = "notes"

    def ready(self) -> None:
        """Add the serializer ``loud``."""
        from notes.serializers import loud

        register_serializer("loud", loud)

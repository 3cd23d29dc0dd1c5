"""Binding classes: one with settings only, and one that overrides methods."""

from collections.abc import Mapping

from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser

from declbind import Binding, WebsocketBinding, WebsocketDemultiplexer
from notes.models import Note


class NoteBinding(WebsocketBinding):
    """Notes by room, which staff may write."""

    model = Note
    stream = "notes"
    fields = ["text", "room"]
    groups = ["room-{room}"]
    permissions = {"view": True, "create": "staff", "update": "staff", "delete": False}
    writable = ["text"]
    serializer = "loud"


class LongNoteBinding(WebsocketBinding[Note]):
    """Notes with their length, and with rules of its own."""

    model = "notes.Note"
    stream = "long-notes"
    fields = ("text",)
    direction = "outbound"
    capture = "orm"

    @classmethod
    def group_names(cls, instance: Note) -> list[str]:
        """Return one group for even rooms and one for odd ones."""
        return [f"parity-{instance.room % 2}"]

    def subscription_group(
        self, user: AbstractBaseUser | AnonymousUser | None, params: Mapping[str, object]
    ) -> str | None:
        """Return the group that the client names."""
        return f"parity-{params['parity']}"

    def has_view_permission(self, user: AbstractBaseUser | AnonymousUser | None, params: Mapping[str, object]) -> bool:
        """Let active users subscribe."""
        return user is not None and user.is_active

    def has_permission(self, user: AbstractBaseUser | AnonymousUser | None, action: str, pk: object) -> bool:
        """Let nobody write."""
        return False

    def serialize_data(self, instance: Note) -> dict[str, object]:
        """Add the length of the text."""
        return {**super().serialize_data(instance), "length": len(instance.text)}


class LoudNoteBinding(WebsocketBinding):
    """Notes in capitals. A class that does not say its model to the type checker may override everything, too."""

    model = Note
    stream = "loud-notes"
    fields = ["text"]
    groups = ["loud"]
    enabled = False

    @classmethod
    def group_names(cls, instance: Note) -> list[str]:
        """Return the groups of the templates and one for long notes."""
        return [*super().group_names(instance), *(["long"] if len(instance.text) > 100 else [])]

    def serialize(self, instance: Note, action: str) -> dict[str, object]:
        """Send no empty notes."""
        return super().serialize(instance, action) if instance.text else {}


class Demultiplexer(WebsocketDemultiplexer):
    """A consumer of one binding."""

    consumers = {"long-notes": LongNoteBinding.consumer}

    def connection_groups(self, **kwargs: object) -> list[str]:
        """Put each connection into the group of even rooms."""
        return ["parity-0"]


def streams(bindings: list[type[Binding]]) -> list[str]:
    """Return the streams of concrete bindings."""
    return [binding.stream for binding in bindings if binding.stream is not None]

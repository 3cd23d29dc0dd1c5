"""Serializers: one that the settings name, and one that the app adds."""

from collections.abc import Mapping

from declbind import Binding
from notes.models import Note


def short(note: Note, binding: Binding) -> Mapping[str, object]:
    """Return the beginning of a note."""
    return {"text": note.text[:10]}


def loud(note: Note, binding: Binding) -> dict[str, object]:
    """Return a note in capitals."""
    return {"text": note.text.upper()}

"""Drop the index of the sequencer on SQLite, which has no sequencer: every event would enter it, and nothing reads it."""

from __future__ import annotations

from typing import Any

from django.db import migrations

NAME = "declbind_event_unsequenced"


def find(apps: Any) -> tuple[Any, Any]:
    """Return the model and its index."""
    event = apps.get_model("declbind", "Event")
    return event, next(index for index in event._meta.indexes if index.name == NAME)


def drop(apps: Any, schema_editor: Any) -> None:
    """Drop the index on SQLite."""
    if schema_editor.connection.vendor == "sqlite":
        schema_editor.remove_index(*find(apps))


def restore(apps: Any, schema_editor: Any) -> None:
    """Create the index on SQLite again."""
    if schema_editor.connection.vendor == "sqlite":
        schema_editor.add_index(*find(apps))


class Migration(migrations.Migration):
    """Fewer pages for each commit."""

    dependencies = [("declbind", "0001_initial")]
    operations = [migrations.RunPython(drop, restore, atomic=False, hints={"model_name": "event"})]

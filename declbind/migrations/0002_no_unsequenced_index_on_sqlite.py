"""Drop the sequencer's index where there is no sequencer: on SQLite every event would enter it, and nobody reads it."""

from __future__ import annotations

from typing import Any

from django.db import migrations

NAME = "declbind_event_unsequenced"


def drop(apps: Any, schema_editor: Any) -> None:
    """Drop the index on SQLite."""
    if schema_editor.connection.vendor == "sqlite":
        schema_editor.execute(f"DROP INDEX IF EXISTS {NAME}")


def restore(apps: Any, schema_editor: Any) -> None:
    """Make the index again."""
    if schema_editor.connection.vendor == "sqlite":
        event = apps.get_model("declbind", "Event")
        schema_editor.add_index(event, next(index for index in event._meta.indexes if index.name == NAME))


class Migration(migrations.Migration):
    """Fewer pages for each commit."""

    dependencies = [("declbind", "0001_initial")]
    operations = [migrations.RunPython(drop, restore)]

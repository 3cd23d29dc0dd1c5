"""Drop the index of the sequencer on the databases where nothing reads it.

SQLite has no sequencer. Without partial indexes, as on MySQL and MariaDB, the unique index of ``seq`` serves as well.
"""

from __future__ import annotations

from typing import Any

from django.db import migrations

NAME = "declbind_event_unsequenced"


def is_of_use(connection: Any) -> bool:
    """Return whether a query of this database uses the index."""
    return bool(connection.vendor != "sqlite" and connection.features.supports_partial_indexes)


def find(apps: Any) -> tuple[Any, Any]:
    """Return the model and its index."""
    event = apps.get_model("declbind", "Event")
    return event, next(index for index in event._meta.indexes if index.name == NAME)


def drop(apps: Any, schema_editor: Any) -> None:
    """Drop the index."""
    if not is_of_use(schema_editor.connection):
        schema_editor.remove_index(*find(apps))


def restore(apps: Any, schema_editor: Any) -> None:
    """Create the index again."""
    if not is_of_use(schema_editor.connection):
        schema_editor.add_index(*find(apps))


class Migration(migrations.Migration):
    """Fewer pages for each commit."""

    dependencies = [("declbind", "0001_initial")]
    operations = [migrations.RunPython(drop, restore, atomic=False, hints={"model_name": "event"})]

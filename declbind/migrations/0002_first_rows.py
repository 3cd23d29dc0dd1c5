"""Drop the indexes that this database does not need, and insert the rows that must always be there.

These rows are the head of the log and the version of the configuration. Processes that start together would otherwise
compete for the first insert. ``flush`` deletes the rows, and ``post_migrate`` inserts them again.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

from django.db import migrations

UNSEQUENCED, MARK = "declbind_event_unsequenced", "declbind_event_mark"


def drop_indexes(apps: Any, schema_editor: Any) -> None:
    """Drop indexes of events that every insert would enter and no query would read."""
    for model, index in _find_needless(apps, schema_editor.connection):
        schema_editor.remove_index(model, index)


def restore_indexes(apps: Any, schema_editor: Any) -> None:
    """Create the indexes again."""
    for model, index in _find_needless(apps, schema_editor.connection):
        schema_editor.add_index(model, index)


def insert_head(apps: Any, schema_editor: Any) -> None:
    """Insert the head of an empty log. That of a log with events is inserted by the process that finds it missing."""
    using = schema_editor.connection.alias
    if not apps.get_model("declbind", "Event").objects.using(using).exists():
        head = {"epoch": secrets.token_hex(8), "seq": 0, "min_seq": 1}
        apps.get_model("declbind", "Head").objects.using(using).get_or_create(pk=1, defaults=head)


def insert_configuration(apps: Any, schema_editor: Any) -> None:
    """Insert the version of the configuration."""
    rows = apps.get_model("declbind", "Configuration").objects.using(schema_editor.connection.alias)
    rows.get_or_create(pk=1, defaults={"generation": secrets.token_hex(16), "version": 0})


def _find_needless(apps: Any, connection: Any) -> Iterator[tuple[Any, Any]]:
    names = set()
    if connection.vendor == "sqlite":
        # It has no sequencer.
        names.add(UNSEQUENCED)
    if not connection.features.supports_partial_indexes:
        # Then the index of marks is the same as that of control events.
        names.add(MARK)
    event = apps.get_model("declbind", "Event")
    return ((event, index) for index in event._meta.indexes if index.name in names)


class Migration(migrations.Migration):
    dependencies = [("declbind", "0001_initial")]

    operations = [
        # A router may send the tables of one app to several databases, hence the hints.
        migrations.RunPython(drop_indexes, restore_indexes, atomic=False, hints={"model_name": "event"}),
        migrations.RunPython(insert_head, migrations.RunPython.noop, hints={"model_name": "head"}),
        migrations.RunPython(insert_configuration, migrations.RunPython.noop, hints={"model_name": "configuration"}),
    ]

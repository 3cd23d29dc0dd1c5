"""Insert the rows that must always be there, before the first process needs them.

These are the head of the log and the version of the configuration. Processes that start together would otherwise
compete for the first insert. ``flush`` deletes the rows, and ``post_migrate`` inserts them again.
"""

from __future__ import annotations

import secrets
from typing import Any

from django.db import migrations


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


def drop_second_index(apps: Any, schema_editor: Any) -> None:
    """Keep one index of ``kind``: without partial indexes, that of control events and that of marks are the same."""
    if not schema_editor.connection.features.supports_partial_indexes:
        schema_editor.remove_index(*_find_second_index(apps))


def restore_second_index(apps: Any, schema_editor: Any) -> None:
    """Create the index again."""
    if not schema_editor.connection.features.supports_partial_indexes:
        schema_editor.add_index(*_find_second_index(apps))


def _find_second_index(apps: Any) -> tuple[Any, Any]:
    event = apps.get_model("declbind", "Event")
    return event, next(index for index in event._meta.indexes if index.name == "declbind_event_mark")


class Migration(migrations.Migration):
    dependencies = [("declbind", "0005_triggers")]

    operations = [
        migrations.RunPython(drop_second_index, restore_second_index, atomic=False, hints={"model_name": "event"}),
        # A router may send the tables of one app to several databases.
        migrations.RunPython(insert_head, migrations.RunPython.noop, hints={"model_name": "head"}),
        migrations.RunPython(insert_configuration, migrations.RunPython.noop, hints={"model_name": "configuration"}),
    ]

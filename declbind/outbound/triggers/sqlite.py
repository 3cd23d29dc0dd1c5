"""Triggers on SQLite: one for each kind of write of a row. Values are marked as SQL writes them, which loses nothing.

``INSERT OR REPLACE`` tells its triggers nothing of the row that it replaces (unless ``recursive_triggers`` is on): that
is marked as a new row.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from .tables import WantedTable

EVENTS = ("insert", "update", "delete")
#: Whether the triggers of a table are all there.
REPORTED_SQL = (
    "SELECT COUNT(*) = 3 FROM sqlite_master WHERE type = 'trigger' AND tbl_name = %s AND name IN"
    " ('declbind_insert_' || tbl_name, 'declbind_update_' || tbl_name, 'declbind_delete_' || tbl_name)"
)
#: The last mark before a call of the ORM, and what the marks after it are given.
LAST_SQL = "SELECT COALESCE(MAX(seq), 0) FROM sqlite_sequence WHERE name = 'declbind_event'"
COMPLETE_SQL = (
    "UPDATE declbind_event SET actor = %s, origin = %s, data = json_set(data, '$.call', json(%s))"
    " WHERE id > %s AND kind = 'mark' AND COALESCE(json_extract(data, '$.call'), '') = ''"
)


def install_sql(tables: list[WantedTable], connection: Any) -> list[str]:
    """Return the statements that put in the triggers of tables, in place of what is there."""
    statements = []
    for table in tables:
        for event in EVENTS:
            statements += [_drop(table.name, event, connection), _create(table, event, connection)]
    return statements


def remove_sql(triggers: list[tuple[str, str]], connection: Any) -> list[str]:
    """Return the statements that take out triggers, given as (table, event)."""
    return [_drop(table, event, connection) for table, event in triggers]


def load_found(connection: Any) -> dict[tuple[str, str], str]:
    """Return what triggers of ours there are: (table, event) -> fingerprint."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT tbl_name, name, sql FROM sqlite_master WHERE type = 'trigger' AND substr(name, 1, 9) = 'declbind_'"
        )
        return {(table, name.split("_")[1]): _digest(sql) for table, name, sql in cursor.fetchall()}


def fingerprint(table: WantedTable, event: str, connection: Any) -> str:
    """Return what ``load_found`` says of a trigger that is as it should be."""
    return _digest(_create(table, event, connection))


def _create(table: WantedTable, event: str, connection: Any) -> str:
    quote = connection.ops.quote_name
    sides = [side for side in ("old", "new") if (side, event) not in (("old", "insert"), ("new", "delete"))]
    images = "".join(f", '{side}', {_image(table, side, quote)}" for side in sides)
    return (
        f"CREATE TRIGGER {quote(_name(table.name, event))} AFTER {event.upper()} ON {quote(table.name)} FOR EACH ROW"
        " BEGIN INSERT INTO declbind_event"
        " (kind, stream, model, object_pk, changes, data, version, actor, origin, created_at)"
        " VALUES ('mark', '', '', '', '[]',"
        f" json_object('table', {_text(table.name)}, 'op', '{event.upper()}'{images}),"
        " 0, '', 'SQL', strftime('%Y-%m-%d %H:%M:%f', 'now')); END"
    )


def _image(table: WantedTable, side: str, quote: Any) -> str:
    # quote() writes a float with all its digits, a blob and NULL, none of which JSON would keep.
    return "json_object(" + ", ".join(f"{_text(name)}, quote({side}.{quote(name)})" for name in table.columns) + ")"


def _drop(table: str, event: str, connection: Any) -> str:
    return f"DROP TRIGGER IF EXISTS {connection.ops.quote_name(_name(table, event))}"


def _name(table: str, event: str) -> str:
    return f"declbind_{event}_{table}"


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_images(model: Any, names: list[str], notes: list[str], connection: Any) -> list[tuple[int, str, list[Any]]]:
    """Return the rows that notes carry, as (place of the note, "old" or "new", values of ``names``)."""
    return [
        (place, side, [_value(note[side].get(name)) for name in names])
        for place, note in enumerate(map(json.loads, notes))
        for side in ("old", "new")
        if side in note
    ]


def _value(literal: str | None) -> Any:
    """Read a value as ``quote()`` writes it."""
    if literal is None or literal == "NULL":
        return None
    if literal[0] == "'":
        return literal[1:-1].replace("''", "'")
    if literal[0] in "xX":
        return bytes.fromhex(literal[2:-1])
    return float(literal) if set(literal) & set(".eEnN") else int(literal)

"""Triggers on SQLite: one per table for each kind of row write.

Marks store values as SQL literals, without loss. ``INSERT OR REPLACE`` fires no trigger for a row that it replaces,
unless ``recursive_triggers`` is on. A trigger before each insert therefore records the conflicting rows, and the
trigger after the insert checks whether they were deleted.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable

from django.db import models

from declbind.django_types import Connection
from declbind.outbound import entries

from .tables import SIDES, Image, WantedTable

#: The name of the trigger that runs before inserts, and the ``op`` of the marks that it makes. The trigger after the
#: insert changes the ``op`` if the row was deleted.
REPLACE, CANDIDATE = "replace", "CANDIDATE"
#: The maximum number of rows that one insert can replace: one for each unique constraint.
MAX_REPLACED = 16
EVENTS = ("insert", "update", "delete", REPLACE)
#: Counts the installed triggers of a table.
REPORTED_SQL = (
    "SELECT COUNT(*) FROM sqlite_master WHERE type = 'trigger' AND tbl_name = %s AND name IN"
    " ('declbind_insert_' || tbl_name, 'declbind_update_' || tbl_name, 'declbind_delete_' || tbl_name,"
    " 'declbind_replace_' || tbl_name)"
)
#: ``LAST_SQL`` reads the last id before an ORM call. ``COMPLETE_SQL`` adds the context to marks with greater ids.
#: ``after`` distinguishes calls.
LAST_SQL = "SELECT COALESCE(MAX(seq), 0) FROM sqlite_sequence WHERE name = 'declbind_event'"
COMPLETE_SQL = (
    "UPDATE declbind_event SET actor = %s, origin = %s, data = json_set(data, '$.call', json(%s), '$.after', %s,"
    " '$.is_few', (SELECT COUNT(*) <= %s FROM declbind_event WHERE id > %s AND kind = 'mark'))"
    " WHERE id > %s AND kind = 'mark' AND COALESCE(json_extract(data, '$.call'), '') = ''"
)

_NOW = "strftime('%Y-%m-%d %H:%M:%f', 'now')"
_VALUES = entries.mark_values(actor="''", origin="'SQL'", created_at=_NOW)
_INSERT = f"INSERT INTO declbind_event ({entries.MARK_COLUMNS}) SELECT {_VALUES},"
#: A property of the last mark, if that mark belongs to a replaced row.
_LAST = (
    "(SELECT json_extract(data, '$.{name}') FROM declbind_event WHERE id = (SELECT MAX(id) FROM declbind_event)"
    " AND kind = 'mark' AND json_extract(data, '$.is_replaced'))"
)
#: Turns the candidates of the inserted row, which are the last marks, into deleted rows. The row and the rows it
#: replaced are marked as one call, because with the same key they are one change.
_CONFIRM = (
    "UPDATE declbind_event SET data = json_set(data, '$.op', 'DELETE', '$.is_replaced', 1, '$.call', 'replace' || id)"
    f" WHERE kind = 'mark' AND id > (SELECT MAX(id) FROM declbind_event) - {MAX_REPLACED} AND (SELECT"
    f" json_extract(data, '$.op') = '{CANDIDATE}' FROM declbind_event WHERE id = (SELECT MAX(id) FROM declbind_event)"
    f" AND kind = 'mark') AND json_extract(data, '$.op') = '{CANDIDATE}' AND (json_extract(data, '$.key') ="
    " NEW.{key} OR NOT EXISTS (SELECT 1 FROM {table} AS row WHERE row.{key} = json_extract(data, '$.key'))); "
)


def install_sql(tables: list[WantedTable], connection: Connection) -> list[str]:
    """Return the statements that install the triggers of tables, replacing existing ones."""
    statements = []
    for table in tables:
        for event in EVENTS:
            statements += [_drop(table.name, event, connection), _create(table, event, connection)]
    return statements


def remove_sql(triggers: list[tuple[str, str]], connection: Connection) -> list[str]:
    """Return the statements that remove triggers, given as (table, event)."""
    return [_drop(table, event, connection) for table, event in triggers]


def load_found(connection: Connection) -> dict[tuple[str, str], str]:
    """Return the installed declbind triggers as (table, event) -> fingerprint."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT tbl_name, name, sql FROM sqlite_master WHERE type = 'trigger' AND substr(name, 1, 9) = 'declbind_'"
        )
        return {(table, name.split("_")[1]): _digest(sql) for table, name, sql in cursor.fetchall()}


def fingerprint(table: WantedTable, event: str, connection: Connection) -> str:
    """Return the fingerprint that ``load_found`` returns for a trigger that is up to date."""
    return _digest(_create(table, event, connection))


def _create(table: WantedTable, event: str, connection: Connection) -> str:
    quote = connection.ops.quote_name
    if event == REPLACE:
        return _create_replace(table, connection)
    sides = [side for side in ("old", "new") if (side, event) not in (("old", "insert"), ("new", "delete"))]
    images = "".join(f", '{side}', {_image(table, side, quote)}" for side in sides)
    call = "''"
    body = ""
    if event == "insert":
        body = _CONFIRM.format(table=quote(table.name), key=quote(table.key))
        call = f"COALESCE({_LAST.format(name='call')}, '')"
    note = f"json_object('table', {_text(table.name)}, 'op', '{event.upper()}', 'call', {call}{images})"
    return (
        f"CREATE TRIGGER {quote(_name(table.name, event))} AFTER {event.upper()} ON {quote(table.name)} FOR EACH ROW"
        f" BEGIN {body}{_INSERT} {note}; END"
    )


def _create_replace(table: WantedTable, connection: Connection) -> str:
    """Return the statement that creates the trigger before inserts, which records the rows that a new row may replace.

    ``INSERT OR REPLACE`` deletes these rows without firing their triggers. Before the insert it is not known whether
    the statement is such an insert. The trigger therefore marks the rows as candidates, and the trigger after the
    insert reports those that were deleted.
    """
    quote = connection.ops.quote_name
    found = " OR ".join(
        "(" + " AND ".join(f"old.{quote(name)} = NEW.{quote(name)}" for name in names) + ")"
        for names in _unique_columns(table, connection)
    )
    note = (
        f"json_object('table', {_text(table.name)}, 'op', '{CANDIDATE}', 'call', '',"
        f" 'key', old.{quote(table.key)}, 'old', {_image(table, 'old', quote)})"
    )
    return (
        f"CREATE TRIGGER {quote(_name(table.name, REPLACE))} BEFORE INSERT ON {quote(table.name)} FOR EACH ROW"
        f" BEGIN {_INSERT} {note} FROM {quote(table.name)} AS old WHERE {found}; END"
    )


def _unique_columns(table: WantedTable, connection: Connection) -> list[list[str]]:
    """Return the columns of the primary key, and those of each unconditional unique index of whole columns."""
    connection.ensure_connection()
    # This bypasses Django's cursor, so that a page which shows many tables does not count a query for each.
    with connection.wrap_database_errors:
        rows = connection.connection.execute(
            "SELECT found.name, part.name FROM pragma_index_list(?) AS found, pragma_index_info(found.name) AS part"
            ' WHERE found."unique" AND NOT found.partial ORDER BY found.name, part.seqno',
            [table.name],
        ).fetchall()
    indexes: dict[str, list[str]] = {}
    for index, column in rows:
        indexes.setdefault(index, []).append(column)
    others = [columns for columns in indexes.values() if None not in columns and columns != [table.key]]
    return [[table.key], *others]


def _image(table: WantedTable, side: str, quote: Callable[[str], str]) -> str:
    # quote() writes a float with all its digits, a blob and NULL, none of which JSON would preserve.
    return "json_object(" + ", ".join(f"{_text(name)}, quote({side}.{quote(name)})" for name in table.columns) + ")"


def _drop(table: str, event: str, connection: Connection) -> str:
    return f"DROP TRIGGER IF EXISTS {connection.ops.quote_name(_name(table, event))}"


def _name(table: str, event: str) -> str:
    return f"declbind_{event}_{table}"


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_images(model: type[models.Model], names: list[str], notes: list[str], connection: Connection) -> list[Image]:
    """Return the rows in the marks ``notes`` (JSON texts), with the values of the columns ``names`` in that order."""
    return [
        Image(place, side, [_value(note[side].get(name)) for name in names])
        for place, note in enumerate(map(json.loads, notes))
        for side in SIDES
        if side in note
    ]


def _value(literal: str | None) -> object:
    """Return the Python value of an SQL literal as written by SQLite's ``quote()``."""
    if literal is None or literal == "NULL":
        return None
    if literal[0] == "'":
        return literal[1:-1].replace("''", "'")
    if literal[0] in "xX":
        return bytes.fromhex(literal[2:-1])
    return float(literal) if set(literal) & set(".eEnN") else int(literal)

"""The rows that subscribers of a stream should hold, by plain SQL.

Nothing here uses declbind for rows, groups or data, nor the managers and field conversions of the guest.
"""

from __future__ import annotations

import datetime as dt
import decimal
import json
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from django.apps import apps
from django.core.serializers.json import DjangoJSONEncoder
from django.db import connection, models

#: The columns of a stored row by name.
Columns = Mapping[str, Any]
#: A row as the driver gives it.
Found = tuple[Any, ...]
#: A row as a subscriber should see it: its groups, and its data.
Row = tuple[tuple[str, ...], dict[str, object]]
#: The value of one column of a row in a frame.
Reader = Callable[[object], object]


def as_json(value: object) -> Any:
    """Return a value as it is after a round trip through JSON."""
    return json.loads(json.dumps(value, cls=DjangoJSONEncoder))


def read_column(field: Any, raw: Any) -> Any:
    """Return a column's value from the driver as it should be in a frame."""
    if raw is None:
        return None
    if field.is_relation:
        return read_column(field.target_field, raw)
    match field:
        case models.BooleanField():
            return bool(raw)
        case models.DateTimeField():
            value = dt.datetime.fromisoformat(raw) if isinstance(raw, str) else raw
            return value if value.tzinfo else value.replace(tzinfo=dt.UTC)
        case models.DecimalField():
            return decimal.Decimal(str(raw)).quantize(decimal.Decimal(1).scaleb(-field.decimal_places))
        case models.JSONField():
            return json.loads(raw) if isinstance(raw, str) else raw
        case models.UUIDField():
            return uuid.UUID(raw) if isinstance(raw, str) else raw
    return raw


@dataclass(frozen=True)
class Table:
    """A table whose writes concern a stream: the column that holds the key of the stream's row."""

    name: str
    key: str


class Stream:
    """A binding record, and what its subscribers should hold."""

    def __init__(
        self, record: Mapping[str, Any], readers: Mapping[str, Reader], other_columns: Mapping[str, str]
    ) -> None:
        self.record = record
        self.name: str = record["stream"]
        self.model: Any = apps.get_model(record["model"])
        self.readers, self.other_columns = readers, other_columns
        fields = [self.model._meta.get_field(name) for name in record["fields"]]
        self.columns = [field for field in fields if not field.many_to_many]
        self.lists = [field for field in fields if field.many_to_many]

    @property
    def has_more_tables(self) -> bool:
        """Return whether rows of other tables are part of its rows, or cause them to be sent again."""
        return bool(self.lists or self.record.get("also"))

    def tables(self) -> Iterator[Table]:
        """Yield the tables that the data of a row come from."""
        yield from (Table(name, keys[0]) for name, keys in self._tables().items())
        for field in self.lists:
            through = field.remote_field.through._meta
            yield Table(through.db_table, through.get_field(field.m2m_field_name()).column)
        for name in self.record.get("also", []):
            relation = self.model._meta.get_field(name)
            yield Table(relation.related_model._meta.db_table, relation.field.column)

    def _tables(self) -> dict[str, list[str]]:
        """Return the columns of the model's own table and of its parents', the key first."""
        found: dict[str, list[str]] = {}
        for model in (self.model._meta.concrete_model, *self.model._meta.get_parent_list()):
            meta = model._meta
            found[meta.db_table] = [meta.pk.column, *(field.column for field in meta.local_concrete_fields)]
        return found

    def look(self) -> dict[object, Row]:
        """Return the rows that subscribers should hold, by their keys, with plain SQL."""
        (own, columns), *parents = self._tables().items()
        rows = {values[0]: dict(zip(columns, values, strict=True)) for values in select(own, columns)}
        for table, names in parents:
            for values in select(table, names):
                if values[0] in rows:
                    rows[values[0]] |= dict(zip(names, values, strict=True))
        lists = {field.name: self._list(field) for field in self.lists}
        view = {}
        for pk, row in rows.items():
            row |= {name: row[other] for name, other in self.other_columns.items()}
            data = {field.name: self._read(field, row[field.column]) for field in self.columns}
            data |= {name: sorted(listed.get(pk, [])) for name, listed in lists.items()}
            view[as_json(self._read(self.model._meta.pk, pk))] = self._groups(row), as_json(data)
        return view

    def _read(self, field: Any, raw: Any) -> object:
        reader = self.readers.get(field.name)
        return reader(raw) if reader is not None and raw is not None else read_column(field, raw)

    def key_of(self, raw: str) -> Any:
        """Return the key of a recorded write, which is text, as it is in a frame."""
        pk = self.model._meta.pk
        while pk.is_relation:
            pk = pk.target_field
        is_number = isinstance(pk, models.IntegerField) or pk.name in self.readers
        return as_json(self._read(pk, int(raw) if is_number else raw))

    def _list(self, field: Any) -> dict[object, list[Any]]:
        through = field.remote_field.through._meta
        names = [through.get_field(name()).column for name in (field.m2m_field_name, field.m2m_reverse_field_name)]
        found: dict[object, list[Any]] = {}
        for owner, other in select(through.db_table, names):
            found.setdefault(owner, []).append(other)
        return found

    def _groups(self, row: Columns) -> tuple[str, ...]:
        if any(row[name] != value for name, value in self.record.get("where", {}).items()):
            return ()
        templates = self.record.get("groups", [self.name])
        return tuple(text.format(**row) for text in templates if all(row[name] is not None for name in names_in(text)))


def names_in(template: str) -> list[str]:
    """Return the placeholders of a group template."""
    return [part.partition("}")[0] for part in template.split("{")[1:]]


def quote(name: str) -> str:
    return connection.ops.quote_name(name)


def select(table: str, columns: Iterable[str]) -> list[Found]:
    """Return rows without a manager, a field's converter or a wrapper of Django's."""
    names = ", ".join(quote(name) for name in columns)
    return run_plain(f"SELECT {names} FROM {quote(table)}")


def run_plain(sql: str) -> list[Found]:
    """Run a statement on the driver's own connection, bypassing the cursors that guests wrap."""
    connection.ensure_connection()
    raw: Any = connection.connection
    cursor = raw.cursor()
    cursor.execute(sql)
    rows: list[Found] = cursor.fetchall() if cursor.description else []
    return rows

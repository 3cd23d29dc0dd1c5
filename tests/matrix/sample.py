"""The sample: a few rows of one kind with their related rows, made again for each scenario without capture."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from typing import Any
from unittest.mock import patch

from django.apps import apps
from django.db import connection, models, transaction

from declbind.outbound import capture
from declbind.outbound.lists import forget_list_managers

from .kinds import ROWS, Kind
from .models import Base, Box, Holder, Host, Label, Shelf

Rows = models.QuerySet[Any]
#: The values of columns by name.
Values = Mapping[str, Any]


@contextlib.contextmanager
def uncaptured() -> Iterator[None]:
    """Remove the hooks, as if declbind were not installed. Django keeps its managers of lists."""
    with contextlib.ExitStack() as stack:
        stack.callback(forget_list_managers)
        for owner, name, _ in capture.HOOKS:
            method = getattr(owner, name)
            stack.enter_context(patch.object(owner, name, getattr(method, "__wrapped__", method)))
        forget_list_managers()
        yield


def make_tables() -> None:
    """Make the tables of all kinds in a database that has none of them yet."""
    with connection.schema_editor() as editor:
        for model in apps.get_app_config("matrix").get_models():
            if not model._meta.proxy:
                editor.create_model(model)


class Sample:
    """Rows "a", "b", "c", "s" and "z" of a kind (see ``kinds.ROWS``), and the operations of the ways on them.

    ``changes`` are the values that a way is to write. ``shift`` changes which row a letter means, for sequences.
    """

    def __init__(self, kind: Kind, changes: Mapping[str, object], shift: int = 0) -> None:
        self.kind = kind
        self.model = kind.model
        self.changes = dict(changes)
        self.shift = shift
        self._made = 0

    # --- before the write -------------------------------------------------------------------------------------------

    def fill(self, prepare: Callable[[Sample], Any] | None = None) -> None:
        """Empty the tables of the kind, make its rows and those that ``prepare`` makes. Not captured."""
        with uncaptured(), transaction.atomic():
            empty([self.kind])
            self._make_relations()
            rows = {name: self._store(name, values) for name, values in ROWS.items()}
            pairs = [(row.pk, label) for name, row in rows.items() for label in ROWS[name]["labels"]]
            column = f"{self.owner_column}_id"
            self.through.objects.bulk_create(
                self.through(**{column: pk}, label=self.labels[label]) for pk, label in pairs
            )
            if self.kind.name == "tree":
                rows["a"].neighbours.set([rows["b"], rows["c"]])
                # "a" is the root of two, "c" of none.
                self.model.objects.filter(name__in="bs").update(parent=rows["a"])
            if prepare is not None:
                prepare(self)

    def _make_relations(self) -> None:
        def make(model, count):
            word = model._meta.model_name
            rows: list[Any] = model.objects.bulk_create(model(name=f"{word} {number}") for number in range(count))
            return rows

        self.shelves, self.boxes, self.labels, self.hosts = make(Shelf, 2), make(Box, 2), make(Label, 3), make(Host, 2)

    def _store(self, name: str, values: Values) -> Any:
        row = (self.kind.stored or self.model)(name=name, **self._columns(values), **self.kind.needs(name))
        if self.kind.name == "hiding":
            row.asleep = name == "s"
        row.save(force_insert=True)
        if self.kind.beside is not None:
            other = self.kind.beside(base_ptr_id=row.pk)
            for field in Base._meta.concrete_fields:
                setattr(other, field.attname, getattr(row, field.attname))
            other.save()
        return row

    def _columns(self, values: Values) -> dict[str, Any]:
        columns = {name: value for name, value in values.items() if name != "labels"}
        columns["shelf"] = None if values["shelf"] is None else self.shelves[values["shelf"]]
        columns["box"] = None if values["box"] is None else self.boxes[values["box"]]
        return columns

    def restock(self) -> None:
        """Recreate missing rows: relations, and a row or two."""
        for rows in (self.shelves, self.boxes, self.labels, self.hosts):
            for number, row in enumerate(rows):
                if not type(row).objects.filter(pk=row.pk).exists():
                    rows[number] = type(row).objects.create(name=f"{row.name[:15]}'")
        while self.rows.count() < len(ROWS) - 1:
            row = self.make(shelf=self.shelves[0], box=self.boxes[0])
            row.save()
            row.labels.add(*self.labels[:2])

    # --- used by the ways -------------------------------------------------------------------------------------------

    @property
    def objects(self) -> Rows:
        """Return all rows of the written model."""
        rows: Rows = self.model._default_manager.all()
        return rows

    @property
    def rows(self) -> Rows:
        """Return the rows for ways that write many rows: all but "z"."""
        return self.objects.exclude(name="z")

    def row(self, letter: str) -> Any:
        """Return one row, freshly read."""
        names = sorted(self.rows.values_list("name", flat=True)) if self.shift else []
        name = names[(ord(letter) + self.shift) % len(names)] if names else letter
        return self.objects.get(name=name)

    def change(self, row: object) -> object:
        """Set the values to be written on a row, without storing it; return it."""
        for name, value in self.changes.items():
            setattr(row, name, value)
        return row

    def new_name(self) -> str:
        """Return a name that no row has."""
        self._made += 1
        return f"n{self.shift}-{self._made}"

    def new_values(self, name: str) -> dict[str, object]:
        """Return values for a new row. The rows that it needs are made without capture."""
        with uncaptured():
            needed = self.kind.needs(name)
        return {"name": name, "room": 1, **self.changes, **needed}

    def make(self, **values: Any) -> Any:
        """Return a new row that is not stored."""
        return self.model(**{**self.new_values(self.new_name()), **values})

    def reverse(self, of: object, field: str) -> Any:
        """Return the related manager of ``of`` for the rows whose ``field`` refers to it."""
        relation = self.model._meta.get_field(field).remote_field
        return getattr(of, relation.get_accessor_name())

    @property
    def through(self) -> Any:
        """Return the through model of the labels."""
        return self.model._meta.get_field("labels").remote_field.through

    @property
    def owner_column(self) -> str:
        """Return the name of the through model's key to the row."""
        name: str = self.model._meta.get_field("labels").m2m_field_name()
        return name

    def through_rows(self, letters: str) -> Rows:
        """Return the through rows of some rows."""
        owners = self.rows.filter(name__in=[self.row(letter).name for letter in letters]).values("pk")
        rows: Rows = self.through.objects.filter(**{f"{self.owner_column}__in": owners})
        return rows


def empty(kinds: Iterable[Kind]) -> None:
    """Empty the tables of kinds, because leftover rows could refer to rows that the next test deletes."""
    tables = dict.fromkeys(table for kind in kinds for table in (*_own_tables(kind), *RELATED))
    deletes = [f"DELETE FROM {connection.ops.quote_name(table)}" for table in tables]
    # The tables refer to each other, and MySQL and MariaDB check that at each statement.
    is_mysql = connection.vendor == "mysql"
    unchecked = connection.constraint_checks_disabled() if is_mysql else contextlib.nullcontext()
    with unchecked, transaction.atomic(), connection.cursor() as cursor:
        # One round trip instead of ten, if several statements may be sent together.
        for sql in ["; ".join(deletes)] if connection.vendor == "postgresql" else deletes:
            cursor.execute(sql)


RELATED = tuple(model._meta.db_table for model in (Shelf, Box, Label, Holder, Host))


@cache
def _own_tables(kind: Kind) -> tuple[str, ...]:
    """Return the tables that a kind's rows may be in, those with foreign keys to others first."""
    everything = [model for model in apps.get_app_config("matrix").get_models() if not model._meta.proxy]
    chosen: list[Any] = [model._meta.concrete_model for model in (kind.model, *kind.bound)]
    family = {*chosen, *(parent for model in chosen for parent in model._meta.get_parent_list())}
    family |= {model for model in everything if any(issubclass(model, parent) for parent in family)}
    family |= {parent for model in list(family) for parent in model._meta.get_parent_list()}
    ordered = sorted(family, key=lambda model: -len(model._meta.get_parent_list()))
    through = [field.remote_field.through for model in ordered for field in model._meta.many_to_many]
    return tuple(dict.fromkeys(model._meta.db_table for model in (*through, *ordered)))

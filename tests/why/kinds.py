"""The kinds of bindings with which causes are planted: what they bind, and how their rows are made and written."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

from django.db import connection, connections
from django.test import override_settings
from django.utils import timezone

from declbind import WebsocketBinding
from declbind.models import BindingRecord, BindingRevision
from declbind.outbound.triggers import upkeep
from declbind.registry import database_alias, refresh
from declbind.testing import override_bindings
from example_site.example.models import IntegerValue
from tests.live import ANYONE
from tests.zoo.models import Sample, Truck, Vehicle

NUMBER = {"model": "example.IntegerValue", "fields": ["name", "value"], "permissions": ANYONE}


#: Names of rows for which the code of ``MadeByCode`` fails.
fails_for: set[str] = set()


def make_by_code() -> type[WebsocketBinding]:
    """Return a binding whose data and groups are made by code.

    It is made here, because a class of a module would be in force in all tests.
    """

    class MadeByCode(WebsocketBinding):
        model = IntegerValue
        stream = "s"
        fields: ClassVar[list[str]] = ["name", "value"]
        permissions: ClassVar[Any] = ANYONE

        @classmethod
        def group_names(cls, instance: Any) -> list[str]:
            return [f"by-code-{instance.name}"]

        @classmethod
        def subscription_group(cls, user: Any, params: Any) -> str:
            return f"by-code-{params.get('name', 'a')}"

        def serialize_data(self, instance: Any) -> dict[str, Any]:
            if instance.name in fails_for:
                raise ValueError(f"no data for {instance.name}")
            return {"name": instance.name, "value": instance.value}

    return MadeByCode


def make_whole() -> type[WebsocketBinding]:
    """Return a binding that makes whole payloads, and none for rows of the name "nothing"."""

    class MadeWhole(WebsocketBinding):
        model = IntegerValue
        stream = "s"
        fields: ClassVar[list[str]] = ["name", "value"]
        permissions: ClassVar[Any] = ANYONE

        @classmethod
        def group_names(cls, instance: Any) -> list[str]:
            return ["whole"]

        def serialize(self, instance: Any, action: str) -> dict[str, Any]:
            return {} if instance.name == "nothing" else {"action": action, "value": instance.value}

    return MadeWhole


@dataclass(frozen=True)
class Kind:
    """One kind of binding. The stream is always ``s``."""

    name: str
    in_force: Callable[[Path], contextlib.AbstractContextManager[Any]]
    make: Callable[..., Any]
    group: Callable[[Any], str]
    #: The table and the column that raw SQL writes, and the field of the key in it.
    table: str = "example_integervalue"
    column: str = "value"
    key: str = "id"
    traits: frozenset[str] = field(default_factory=frozenset)

    def write_silently(self, row: Any, value: int) -> None:
        """Write a row by raw SQL."""
        with connection.cursor() as cursor:
            text = str(value) if self.column == "plate" else value
            cursor.execute(f"UPDATE {self.table} SET {self.column} = %s WHERE {self.key} = %s", [text, row.pk])

    def delete_silently(self, row: Any) -> None:
        """Delete a row by raw SQL."""
        with connection.cursor() as cursor:
            cursor.execute(f"DELETE FROM {self.table} WHERE {self.key} = %s", [row.pk])

    def change(self, row: Any, value: int) -> None:
        """Write a row by the ORM."""
        setattr(row, self.column, str(value) if self.column == "plate" else value)
        row.save()


def number(**values: Any) -> IntegerValue:
    return IntegerValue.objects.create(**{"name": "a", "value": 1, **values})


@contextlib.contextmanager
def stored(record: dict[str, Any], folder: Path) -> Iterator[BindingRecord]:
    """Keep a record in the database in force."""
    made = BindingRecord(**record)
    made.save()
    BindingRevision.objects.update(created_at=timezone.now() - timedelta(days=100))
    refresh()
    yield made


@contextlib.contextmanager
def filed(record: dict[str, Any], folder: Path) -> Iterator[Any]:
    """Keep a record of a file in force."""
    folder.joinpath("s.json").write_text(json.dumps(record))
    with override_settings(DECLBIND={"RECORD_DIRS": [str(folder)]}):
        refresh(force=True)
        yield None
    refresh(force=True)


@contextlib.contextmanager
def triggered(folder: Path) -> Iterator[Any]:
    """Keep a record in force whose table has triggers, so that raw SQL is captured too."""
    with override_bindings({**PER_ROW, "capture": "triggers"}):
        upkeep.install(database_alias())
        try:
            yield None
        finally:
            upkeep.remove(database_alias())


@contextlib.contextmanager
def with_another_database(folder: Path) -> Iterator[Any]:
    """Add a database with the table of numbers to those of the settings."""
    alias = "elsewhere"
    connections.settings[alias] = {
        **connections.configure_settings({"default": {}})["default"],
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(folder / "elsewhere.sqlite3"),
    }
    try:
        # Django's tests forbid to open a connection that was not there before the test.
        connections[alias].connect()
        with connections[alias].schema_editor() as editor:
            editor.create_model(IntegerValue)
        with override_bindings(PER_ROW):
            yield None
    finally:
        connections[alias].close()
        del connections[alias]
        del connections.settings[alias]


def overriding(binding: Any) -> Callable[[Path], contextlib.AbstractContextManager[Any]]:
    return lambda folder: override_bindings(binding if isinstance(binding, dict) else binding())


def by_record(record: dict[str, Any]) -> Callable[[Path], contextlib.AbstractContextManager[Any]]:
    return lambda folder: stored(record, folder)


def by_file(record: dict[str, Any]) -> Callable[[Path], contextlib.AbstractContextManager[Any]]:
    return lambda folder: filed(record, folder)


PER_ROW = {**NUMBER, "stream": "s", "groups": ["name-{name}"]}


def by_name(row: Any) -> str:
    return f"name-{row.name}"


KINDS = [
    Kind("constant group", overriding({**NUMBER, "stream": "s"}), number, lambda row: "s"),
    Kind("group for each row", overriding(PER_ROW), number, by_name, traits=frozenset({"groups"})),
    Kind(
        "where", overriding({**PER_ROW, "where": {"value": [1, 5, 7, 8, 9, 50]}}), number, by_name,
        traits=frozenset({"where", "groups"}),
    ),
    Kind(
        "own rows", overriding({**NUMBER, "stream": "s", "scope": {"value": "$user.pk"}, "groups": ["of-{value}"]}),
        number, lambda row: f"of-{row.value}", column="name", traits=frozenset({"scope"}),
    ),
    Kind(
        "record", by_record(PER_ROW), number, by_name, traits=frozenset({"record", "groups"}),
    ),
    Kind("file", by_file(PER_ROW), number, by_name, traits=frozenset({"file", "groups"})),
    Kind("class", overriding(make_by_code), number, lambda row: f"by-code-{row.name}", traits=frozenset({"code"})),
    Kind("payloads by code", overriding(make_whole), number, lambda row: "whole", traits=frozenset({"payload"})),
    Kind(
        "parent table", overriding({"stream": "s", "model": "zoo.Vehicle", "fields": ["plate"], "permissions": ANYONE}),
        lambda **values: Vehicle.objects.create(plate=values.get("name", "a")), lambda row: "s",
        table="zoo_vehicle", column="plate", traits=frozenset({"parent"}),
    ),
    Kind(
        "child table",
        overriding({"stream": "s", "model": "zoo.Truck", "fields": ["plate", "load"], "permissions": ANYONE}),
        lambda **values: Truck.objects.create(plate=values.get("name", "a")), lambda row: "s",
        table="zoo_truck", column="load", key="vehicle_ptr_id", traits=frozenset({"child"}),
    ),
]  # fmt: skip
KINDS.append(
    Kind(
        "nullable", overriding({**NUMBER, "stream": "s", "model": "zoo.Sample", "fields": ["text", "count"],
                                "groups": ["text-{text}"]}),
        lambda **values: Sample.objects.create(**{"text": "a", **values}), lambda row: f"text-{row.text}",
        table="zoo_sample", column="count", traits=frozenset({"nullable"}),
    )
)  # fmt: skip
KINDS.append(Kind("two databases", with_another_database, number, by_name, traits=frozenset({"elsewhere"})))
if connection.vendor != "mysql":
    KINDS.append(Kind("triggers", triggered, number, by_name, traits=frozenset({"triggers", "groups"})))

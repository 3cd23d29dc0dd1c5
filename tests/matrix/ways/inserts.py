"""Ways to insert rows with `bulk_create`, and from fixtures."""

from __future__ import annotations

import json
from typing import Any

from asgiref.sync import async_to_sync
from django.core import serializers
from django.db import connection
from django.db.models import Value

from tests.matrix.sample import Sample

from .way import has_one_table, way

# bulk_create ---------------------------------------------------------------------------------------------------------


@way(has_one_table, least=10)
def bulk_create(sample):
    sample.objects.bulk_create([sample.make() for _ in range(3)])


@way(has_one_table, least=10)
def bulk_create_one(sample):
    sample.objects.bulk_create([sample.make()])


@way(has_one_table, least=10)
def bulk_create_in_batches(sample):
    sample.objects.bulk_create([sample.make() for _ in range(3)], batch_size=2)


@way(has_one_table, least=10)
def bulk_create_async(sample):
    async_to_sync(sample.objects.abulk_create)([sample.make() for _ in range(2)])


@way(has_one_table, least=10, moves=False)
def bulk_create_of_expressions(sample):
    sample.objects.bulk_create([sample.make(value=Value(4) + 1, room="7") for _ in range(2)])


@way(has_one_table, least=10)
def bulk_create_that_ignores_conflicts(sample):
    taken = sample.row("a").name
    sample.objects.bulk_create([sample.make(), sample.make(name=taken), sample.make()], ignore_conflicts=True)


#: MySQL and MariaDB are not told which column conflicts, so the rows of an upsert are not known beforehand.
HAS_NO_TARGET = connection.vendor == "mysql"


def upsert(sample, rows, name):
    """Insert rows, or update the rows that they conflict with."""
    target = None if HAS_NO_TARGET else [name]
    sample.objects.bulk_create(rows, update_conflicts=True, unique_fields=target, update_fields=list(sample.changes))


@way(has_one_table, least=10, may_lose_track=HAS_NO_TARGET)
def bulk_create_that_updates_conflicts(sample):
    row = sample.row("a")
    rows = [sample.make(), sample.make(name=row.name)]
    upsert(sample, rows, "name")
    return [row]


@way(has_one_table, least=10, may_lose_track=HAS_NO_TARGET)
def bulk_create_that_updates_many_conflicts(sample):
    stored = list(sample.rows)
    rows = [sample.make(), *(sample.make(name=row.name) for row in stored)]
    upsert(sample, rows, "name")
    return stored


@way(has_one_table, least=10, may_lose_track=HAS_NO_TARGET)
def bulk_create_that_updates_by_key(sample):
    row = sample.row("a")
    keyed = sample.change(sample.objects.get(pk=row.pk))
    upsert(sample, [keyed], "pk")
    return [row]


@way(has_one_table, least=10, moves=False)
def bulk_create_by_a_related_manager(sample):
    shelf = sample.shelves[1]
    sample.reverse(shelf, "shelf").bulk_create([sample.make(shelf=shelf) for _ in range(2)])


# fixtures ------------------------------------------------------------------------------------------------------------


def load(documents: list[dict[str, object]]) -> None:
    """Store rows as ``loaddata`` does."""
    for loaded in serializers.deserialize("json", json.dumps(documents)):
        loaded.save()


def dump(sample: Sample, letter: str) -> list[dict[str, Any]]:
    """Return the fixture of a row, that of its parents first."""
    row = sample.row(letter)
    model = sample.model._meta.concrete_model
    parents = sorted(model._meta.get_parent_list(), key=lambda parent: len(parent._meta.get_parent_list()))
    rows = [parent._base_manager.get(pk=getattr(row, parent._meta.pk.attname)) for parent in parents]
    documents: list[dict[str, Any]] = json.loads(serializers.serialize("json", [*rows, row]))
    return documents


@way(is_one_call=False)
def fixture_of_a_known_row(sample):
    documents = dump(sample, "a")
    for document in documents:
        fields = document["fields"]
        fields |= {name: value for name, value in sample.changes.items() if name in fields}
    load(documents)
    return [sample.row("a")]


@way(has_one_table, least=10, is_one_call=False)
def fixture_of_a_new_row(sample):
    [document] = dump(sample, "a")
    values = sample.new_values(sample.new_name())
    document["fields"] |= {name: value for name, value in values.items() if name in document["fields"]}
    made = {"text key": values.get("code"), "one to one": getattr(values.get("holder"), "pk", None)}
    document["pk"] = made.get(sample.kind.name) or ("5" * 32 if sample.kind.name == "uuid" else 5_000 + sample.shift)
    load([document])

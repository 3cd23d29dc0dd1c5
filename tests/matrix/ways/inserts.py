"""Ways to insert rows with `bulk_create`."""

from __future__ import annotations

from asgiref.sync import async_to_sync
from django.db import connection
from django.db.models import Value

from .way import has_one_table, way


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

"""Ways to update rows with one statement, and with `bulk_update`."""

from __future__ import annotations

import uuid

from asgiref.sync import async_to_sync
from django.db.models import F

from .way import SECOND, is_in_piece, only, way

# update --------------------------------------------------------------------------------------------------------------


@way()
def update_one(sample):
    row = sample.row("a")
    sample.objects.filter(pk=row.pk).update(**sample.changes)
    return [row]


@way()
def update_many(sample):
    rows = list(sample.rows)
    sample.rows.update(**sample.changes)
    return rows


@way()
def update_async(sample):
    rows = list(sample.rows)
    async_to_sync(sample.rows.aupdate)(**sample.changes)
    return rows


@way()
def update_of_rows_found_by_what_it_changes(sample):
    rows = list(sample.rows)
    sample.rows.filter(value=0, is_open__in=[True, False]).update(**sample.changes)
    return rows


@way()
def update_of_rows_found_by_a_relation(sample):
    shelf = sample.shelves[0]
    rows = list(sample.rows.filter(shelf=shelf))
    sample.rows.filter(shelf__name=shelf.name).update(**sample.changes)
    return rows


@way()
def update_of_rows_found_by_a_list(sample):
    rows = list(sample.rows)
    sample.rows.filter(labels__in=sample.labels[:2]).distinct().update(**sample.changes)
    return rows


@way(moves=False)
def update_by_an_expression(sample):
    sample.rows.update(value=F("value") + 1, room=F("room") + 1)


@way(moves=False)
def update_of_a_relation(sample):
    rows = list(sample.rows)
    sample.rows.update(shelf=sample.shelves[1])
    return rows


@way()
def update_of_locked_rows(sample):
    rows = list(sample.rows)
    sample.rows.select_for_update().update(**sample.changes)
    return rows


@way()
def update_of_nothing(sample):
    sample.rows.filter(name="nobody").update(**sample.changes)


@way()
def update_of_rows_in_order(sample):
    rows = list(sample.rows)
    sample.rows.order_by("-name", "room").update(**sample.changes)
    return rows


@way()
def update_by_a_related_manager(sample):
    shelf = sample.shelves[0]
    rows = list(sample.objects.filter(shelf=shelf))
    changes = {name: value for name, value in sample.changes.items() if is_in_piece(name)} or {"value": 8}
    sample.reverse(shelf, "shelf").update(**changes)
    return rows


@way(only("text key", "uuid"), least=2, moves=False, may_lose_track=True, is_one_call=False)
def update_of_the_key(sample):
    row = sample.row("s")
    key = uuid.UUID(int=77 + sample.shift) if sample.kind.name == "uuid" else f"moved{sample.shift}"
    sample.objects.filter(pk=row.pk).update(**{sample.model._meta.pk.name: key})


# bulk_update ---------------------------------------------------------------------------------------------------------


@way(without=SECOND)
def bulk_update(sample):
    rows = [sample.change(row) for row in sample.rows]
    sample.objects.bulk_update(rows, list(sample.changes))
    return rows


@way(without=SECOND)
def bulk_update_in_batches(sample):
    rows = [sample.change(row) for row in sample.rows]
    sample.objects.bulk_update(rows, list(sample.changes), batch_size=1)
    return rows


@way(without=SECOND)
def bulk_update_of_one(sample):
    row = sample.change(sample.row("b"))
    sample.objects.bulk_update([row], list(sample.changes))
    return [row]


@way(without=SECOND)
def bulk_update_async(sample):
    rows = [sample.change(row) for row in sample.rows]
    async_to_sync(sample.objects.abulk_update)(rows, list(sample.changes))
    return rows


@way(moves=False)
def bulk_update_by_an_expression(sample):
    rows = list(sample.rows)
    for row in rows:
        row.room = F("room") + 1
    sample.objects.bulk_update(rows, ["room"])
    return rows

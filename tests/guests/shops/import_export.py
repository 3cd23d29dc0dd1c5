"""django-import-export: rows imported one by one and in bulk, in transactions that a dry run rolls back."""

from __future__ import annotations

from django.db import models
from import_export import resources
from tablib import Dataset

from tests.guests.steps import Steps


class Item(models.Model):
    title = models.CharField(max_length=50)
    room = models.IntegerField(default=1)


class ItemResource(resources.ModelResource):
    class Meta:
        model = Item
        skip_unchanged = True
        report_skipped = True


class BulkResource(resources.ModelResource):
    class Meta:
        model = Item
        use_bulk = True
        batch_size = 2

    def for_delete(self, row, instance):
        return row["title"] == "gone"


def make(title, room):
    return Item.objects.create(title=title, room=room)


def sheet(*rows):
    return Dataset(*rows, headers=["id", "title", "room"])


step = Steps()


@step
def dry_run():
    ItemResource().import_data(sheet(("", "imported", 1)), dry_run=True, raise_errors=True)


@step
def new_rows():
    ItemResource().import_data(sheet(*(("", f"imported {number}", number) for number in range(4))), raise_errors=True)


@step
def changed_and_unchanged_rows():
    rows = [(row.pk, row.title, row.room + row.room % 2) for row in Item.objects.filter(title__startswith="imported")]
    ItemResource().import_data(sheet(*rows), raise_errors=True)


@step
def new_rows_in_bulk():
    BulkResource().import_data(sheet(*(("", f"bulk {number}", 1) for number in range(5))), raise_errors=True)


@step
def changed_and_deleted_rows_in_bulk():
    rows = list(Item.objects.filter(title__startswith="bulk"))
    kept = [(row.pk, f"{row.title}!", 2) for row in rows[:3]]
    BulkResource().import_data(sheet(*kept, *((row.pk, "gone", 1) for row in rows[3:])), raise_errors=True)


@step
def undone_by_an_error():
    result = ItemResource().import_data(sheet(("", "good", 1), ("", "bad", "no number")), use_transactions=True)
    assert result.has_errors() or result.has_validation_errors()


@step
def cleared():
    Item.objects.filter(title__startswith="bulk").delete()
    Item.objects.filter(title__startswith="imported").delete()

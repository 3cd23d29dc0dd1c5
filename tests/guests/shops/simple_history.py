"""django-simple-history: a row of history for each write, and bulk calls of its own."""

from __future__ import annotations

from django.db import models
from simple_history.models import HistoricalRecords
from simple_history.utils import bulk_create_with_history, bulk_update_with_history

from tests.guests.steps import Steps


class Item(models.Model):
    title = models.CharField(max_length=50)
    room = models.IntegerField(default=1)
    history = HistoricalRecords()


def make(title, room):
    return Item.objects.create(title=title, room=room)


#: The package cannot make a row of history from an expression.
WITHOUT = frozenset({"save_of_an_expression"})
RECORDS = [
    {
        "stream": "history",
        "model": "mysite.HistoricalItem",
        "fields": ["id", "title", "room", "history_type", "history_change_reason", "history_date"],
    }
]
step = Steps()


@step
def history_of_a_row():
    row = make("first", 1)
    row.title = "second"
    row._change_reason = "a better title"
    row.save()


@step
def save_without_history():
    row = Item.objects.get(title="second")
    row.room = 2
    row.save_without_historical_record()


@step
def revert():
    row = Item.objects.get(title="second")
    row.history.earliest().instance.save()


@step
def bulk_calls_with_history():
    rows = bulk_create_with_history([Item(title=f"bulk {number}") for number in range(3)], Item)
    rows = list(Item.objects.filter(title__startswith="bulk"))
    for row in rows:
        row.room = 3
    bulk_update_with_history(rows, Item, ["room"])


@step
def delete_with_history():
    Item.objects.get(title="first").delete()
    Item.objects.filter(title__startswith="bulk").delete()
    Item.history.all().delete()

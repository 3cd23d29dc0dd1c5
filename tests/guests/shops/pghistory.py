"""django-pghistory: database triggers that keep a history, and a context in front of each statement."""

from __future__ import annotations

import pghistory
from django.db import models

from tests.guests.steps import Steps


@pghistory.track()
class Item(models.Model):
    title = models.CharField(max_length=50)
    room = models.IntegerField(default=1)


def make(title, room):
    return Item.objects.create(title=title, room=room)


#: The rows that the triggers of the package write.
RECORDS = [{"stream": "history", "model": "mysite.ItemEvent", "fields": ["title", "room", "pgh_label", "pgh_obj"]}]
#: The package's triggers write the history in the database, where hooks cannot see it.
IN_DATABASE = {"history"}
HAS_TRIGGERS = True
step = Steps()


@step
def context_around_writes():
    with pghistory.context(user=7, url="/items/"):
        row = make("tracked", 1)
        row.title = "tracked again"
        row.save()


@step
def context_around_an_update():
    with pghistory.context(user=7):
        Item.objects.filter(title="tracked again").update(room=2)


@step
def context_around_bulk_calls():
    with pghistory.context(user=7):
        rows = Item.objects.bulk_create([Item(title=f"bulk {number}") for number in range(3)])
        for row in rows:
            row.room = 3
        Item.objects.bulk_update(rows, ["room"])
        Item.objects.bulk_create(
            [Item(pk=rows[0].pk, title="upserted", room=1)],
            update_conflicts=True,
            unique_fields=["id"],
            update_fields=["title", "room"],
        )


@step(may_resync=True)
def context_around_an_insert_that_ignores_conflicts():
    with pghistory.context(user=7):
        Item.objects.bulk_create([Item(title="ignored")], ignore_conflicts=True)


@step
def revert():
    row = Item.objects.get(title="tracked again")
    with pghistory.context(user=7):
        row.events.order_by("pgh_id").first().revert()


@step
def context_around_deletes():
    with pghistory.context(user=7):
        Item.objects.filter(title="tracked").first().delete()
        Item.objects.filter(title__startswith="bulk").delete()
        Item.objects.all().delete()

"""django-safedelete: deletions that are updates, managers that hide deleted rows, and undeletions."""

from __future__ import annotations

from django.db import models
from safedelete.config import HARD_DELETE, SOFT_DELETE_CASCADE
from safedelete.models import SafeDeleteModel

from tests.guests.steps import Steps


class Item(SafeDeleteModel):
    _safedelete_policy = SOFT_DELETE_CASCADE

    title = models.CharField(max_length=50)
    room = models.IntegerField(default=1)


class Part(SafeDeleteModel):
    _safedelete_policy = SOFT_DELETE_CASCADE

    name = models.CharField(max_length=50)
    item = models.ForeignKey(Item, on_delete=models.CASCADE)


def make(title, room):
    return Item.objects.create(title=title, room=room)


RECORDS = [{"stream": "parts", "model": "mysite.Part", "fields": ["name", "item", "deleted", "deleted_by_cascade"]}]
step = Steps()


@step
def soft_delete_with_parts():
    row = make("safe", 1)
    Part.objects.create(name="part", item=row)
    row.delete()


@step
def undelete_with_parts():
    Item.deleted_objects.get(title="safe").undelete()


@step
def soft_delete_of_a_query_set():
    Item.objects.filter(title="safe").delete()


@step
def save_of_a_deleted_row():
    row = Item.all_objects.get(title="safe")
    row.room = 3
    row.save(keep_deleted=True)


@step
def undelete_of_a_query_set():
    Item.deleted_objects.filter(title="safe").undelete()


@step
def update_of_all_rows():
    Item.all_objects.filter(title="safe").update(room=2)


@step
def hard_delete():
    Item.all_objects.get(title="safe").delete(force_policy=HARD_DELETE)
    Item.all_objects.all().delete(force_policy=HARD_DELETE)

"""django-hashid-field: integer columns, the primary key among them, that are shown as hashes."""

from __future__ import annotations

from django.db import models
from hashid_field import HashidAutoField, HashidField
from hashids import Hashids

from tests.guests.steps import Steps

HASHES = Hashids(salt="only for tests", min_length=7)


class Item(models.Model):
    id = HashidAutoField(primary_key=True)
    title = models.CharField(max_length=50)
    room = models.IntegerField(default=1)
    reference = HashidField(null=True)


class Part(models.Model):
    name = models.CharField(max_length=20)
    item = models.ForeignKey(Item, on_delete=models.CASCADE)


def make(title, room):
    return Item.objects.create(title=title, room=room, reference=room * 100)


#: The form that the package gives to a column's value, computed with the library of hashes alone.
READERS = {"mysite.Item": {"id": HASHES.encode, "reference": HASHES.encode}, "mysite.Part": {"item": HASHES.encode}}
RECORDS = [{"stream": "parts", "model": "mysite.Part", "fields": ["name", "item"]}]
step = Steps()


@step
def key_and_column():
    row = make("hashed", 1)
    row.reference = 77
    row.save()


@step
def rows_found_by_hash():
    row = Item.objects.get(title="hashed")
    Item.objects.filter(pk=str(row.pk)).update(room=2)
    Item.objects.filter(reference=HASHES.encode(77)).update(reference=78)


@step
def related_rows():
    row = Item.objects.get(title="hashed")
    part = Part.objects.create(name="part", item=row)
    part.name = "piece"
    part.save()


@step
def delete_with_parts():
    Item.objects.get(title="hashed").delete()

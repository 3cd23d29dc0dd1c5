"""django-modeltranslation: a field becomes a descriptor that depends on the language of the thread."""

from __future__ import annotations

from django.db import models
from django.utils import translation
from modeltranslation.utils import auto_populate

from tests.guests.steps import Steps


class Item(models.Model):
    title = models.CharField(max_length=50)
    room = models.IntegerField(default=1)


def make(title, room):
    return Item.objects.create(title=title, room=room)


#: The package reads and writes the column of a language. The original column is the default language's, and may be
#: stale.
OTHER_COLUMNS = {"mysite.Item": {"title": "title_en"}}
FIELDS = ["title", "title_en", "title_de", "room"]
RECORDS = [
    {"stream": "titles", "model": "mysite.Item", "fields": ["title", "room"], "groups": ["titles", "t-{title}"]},
    {"stream": "hello", "model": "mysite.Item", "fields": ["title", "room"], "where": {"title": "Hello"}},
]
step = Steps()


@step
def create_in_both_languages():
    Item.objects.create(title_en="Hello", title_de="Hallo")


@step
def save_by_a_german():
    with translation.override("de"):
        row = Item.objects.get(title_en="Hello")
        row.room = 2
        row.save()


@step
def new_title_by_a_german():
    with translation.override("de"):
        row = Item.objects.get(title_en="Hello")
        row.title = "Servus"
        row.save()


@step
def update_by_a_german():
    with translation.override("de"):
        Item.objects.filter(title="Servus").update(title="Moin", room=3)


@step
def bulk_calls_by_a_german():
    with translation.override("de"):
        Item.objects.bulk_create([Item(title="eins"), Item(title="zwei")])
        rows = list(Item.objects.filter(title__in=["eins", "zwei"]))
        for row in rows:
            row.room = 2
        Item.objects.bulk_update(rows, ["room"])


@step
def create_that_populates():
    with auto_populate(True):
        Item.objects.create(title="populated")


@step
def delete_by_a_german():
    with translation.override("de"):
        Item.objects.get(title="Moin").delete()
        Item.objects.filter(title__in=["eins", "zwei"]).delete()

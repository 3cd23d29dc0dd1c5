"""django-parler: translated fields in a table of their own, saved after the row."""

from __future__ import annotations

from django.db import models
from django.utils import translation
from parler.models import TranslatableModel, TranslatedFields

from tests.guests.steps import Steps


class Item(TranslatableModel):
    title = models.CharField(max_length=50)
    room = models.IntegerField(default=1)
    translations = TranslatedFields(text=models.CharField(max_length=50, default=""))


def make(title, room):
    return Item.objects.create(title=title, room=room, text=f"text of {title}")


RECORDS = [
    {
        "stream": "texts",
        "model": "mysite.ItemTranslation",
        "fields": ["language_code", "text", "master"],
        "groups": ["texts", "in-{language_code}"],
    },
    {"stream": "again", "model": "mysite.Item", "fields": ["title"], "also": ["translations"]},
]
step = Steps()


@step
def translation_of_a_row():
    row = make("hello", 1)
    row.set_current_language("de")
    row.text = "hallo"
    row.save()


@step
def save_in_another_language():
    with translation.override("de"):
        row = Item.objects.get(title="hello")
        row.text = "servus"
        row.room = 2
        row.save()


@step
def new_translation():
    row = Item.objects.get(title="hello")
    row.create_translation("fr", text="bonjour")


@step
def translations_saved_alone():
    row = Item.objects.language("de").get(title="hello")
    row.text = "moin"
    row.save_translations()


@step
def translation_removed():
    Item.objects.get(title="hello").delete_translation("fr")


@step
def delete_with_translations():
    Item.objects.get(title="hello").delete()

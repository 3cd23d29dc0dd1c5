"""django-reversion: versions stored at the end of a revision, and restored rows."""

from __future__ import annotations

import reversion
from django.db import models
from reversion.models import Version

from tests.guests.steps import Steps


@reversion.register()
class Item(models.Model):
    title = models.CharField(max_length=50)
    room = models.IntegerField(default=1)


def make(title, room):
    return Item.objects.create(title=title, room=room)


RECORDS = [
    {"stream": "versions", "model": "reversion.Version", "fields": ["object_id", "object_repr", "serialized_data"]},
    {"stream": "revisions", "model": "reversion.Revision", "fields": ["comment", "date_created"]},
]
step = Steps()


@step
def revision():
    with reversion.create_revision():
        row = make("first", 1)
        reversion.set_comment("made")
    with reversion.create_revision(atomic=False):
        row.title = "second"
        row.save()


@step
def revert():
    row = Item.objects.get(title="second")
    Version.objects.get_for_object(row).last().revision.revert()


@step
def delete_and_recover():
    with reversion.create_revision():
        Item.objects.get(title="first").save()
    Item.objects.get(title="first").delete()
    Version.objects.get_deleted(Item).first().revert()


@step
def revision_undone():
    try:
        with reversion.create_revision():
            make("never", 1)
            raise LookupError
    except LookupError:
        pass


@step
def cleared():
    Item.objects.all().delete()
    Version.objects.all().delete()

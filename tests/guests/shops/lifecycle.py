"""django-lifecycle: hooks that write again during a ``save`` or ``delete`` and after the commit."""

from __future__ import annotations

from django.db import models, transaction
from django_lifecycle import (
    AFTER_CREATE,
    AFTER_DELETE,
    AFTER_SAVE,
    AFTER_UPDATE,
    BEFORE_SAVE,
    BEFORE_UPDATE,
    LifecycleModelMixin,
    hook,
)

from tests.guests.steps import Steps


class Log(models.Model):
    text = models.CharField(max_length=80)


class Item(LifecycleModelMixin, models.Model):
    title = models.CharField(max_length=50)
    room = models.IntegerField(default=1)
    slug = models.CharField(max_length=50, default="")
    moves = models.IntegerField(default=0)

    @hook(BEFORE_SAVE)
    def make_slug(self):
        self.slug = f"slug-{self.title}"

    @hook(BEFORE_UPDATE, when="room", has_changed=True)
    def count_moves(self):
        self.moves += 1

    @hook(AFTER_CREATE)
    def log_creation(self):
        Log.objects.create(text=f"created {self.title}")

    @hook(AFTER_UPDATE, when="title", is_now="again")
    def write_again(self):
        Item.objects.filter(pk=self.pk).update(title="written again")

    @hook(AFTER_SAVE, on_commit=True, when="title", is_now="late")
    def write_after_the_commit(self):
        Item.objects.filter(pk=self.pk).update(title="written late")

    @hook(AFTER_DELETE)
    def log_deletion(self):
        Log.objects.create(text=f"deleted {self.title}")


def make(title, room):
    return Item.objects.create(title=title, room=room)


RECORDS = [{"stream": "logs", "model": "mysite.Log", "fields": ["text"]}]
step = Steps()


@step
def hooks_of_a_new_row():
    make("lively", 1)


@step
def hook_that_writes_the_row_again():
    row = Item.objects.get(title="lively")
    row.title = "again"
    row.save()


@step
def hook_after_the_commit():
    with transaction.atomic():
        row = Item.objects.get(title="written again")
        row.title = "late"
        row.save()


@step
def save_without_hooks():
    row = Item.objects.get(title="written late")
    row.room = 2
    row.save(skip_hooks=True)


@step
def hook_of_a_deletion():
    Item.objects.get(title="written late").delete()

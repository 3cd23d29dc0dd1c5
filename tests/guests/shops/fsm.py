"""django-fsm-2: a protected field that only transitions may set, and saves with a condition on the old state."""

from __future__ import annotations

from django.db import models
from django_fsm import ConcurrentTransition, ConcurrentTransitionMixin, FSMField, FSMModelMixin, transition

from tests.guests.steps import Steps


class Item(ConcurrentTransitionMixin, models.Model):
    title = models.CharField(max_length=50)
    room = models.IntegerField(default=1)
    state = FSMField(default="new")

    @transition(field=state, source="new", target="sent")
    def send(self):
        self.room = 2

    @transition(field=state, source="*", target="done")
    def finish(self):
        self.title = "done"


class Strict(FSMModelMixin, models.Model):
    state = FSMField(default="new", protected=True)

    @transition(field=state, source="new", target="sent")
    def send(self):
        pass


def make(title, room):
    return Item.objects.create(title=title, room=room)


RECORDS = [
    {"stream": "states", "model": "mysite.Item", "fields": ["title", "state"], "groups": ["s-{state}"]},
    {"stream": "strict", "model": "mysite.Strict", "fields": ["state"], "groups": ["strict", "s-{state}"]},
]
step = Steps()


@step
def transition_of_a_row():
    row = make("letter", 1)
    row.send()
    row.save()


@step(raises=ConcurrentTransition)
def transition_of_an_outdated_row():
    mine, theirs = Item.objects.get(title="letter"), Item.objects.get(title="letter")
    theirs.finish()
    theirs.save()
    mine.finish()
    mine.save()


@step
def transition_of_a_protected_field():
    row = Strict.objects.create()
    row.send()
    row.save()


@step
def save_of_a_protected_row():
    row = Strict.objects.get(state="sent")
    row.save()
    Strict.objects.filter(pk=row.pk).update(state="new")


@step
def delete_of_a_protected_row():
    Strict.objects.first().delete()

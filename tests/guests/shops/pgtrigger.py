"""django-pgtrigger: triggers that change, cancel or replace writes, and prefixes that disable them."""

from __future__ import annotations

import pgtrigger
from django.db import DatabaseError, models

from tests.guests.steps import Steps


class Item(models.Model):
    title = models.CharField(max_length=50)
    room = models.IntegerField(default=1)

    class Meta:
        triggers = [
            pgtrigger.Protect(name="keep_titled", operation=pgtrigger.Delete, condition=pgtrigger.Q(old__title="kept"))
        ]


class Soft(models.Model):
    """A model whose deletion becomes an update."""

    name = models.CharField(max_length=50)
    is_active = models.BooleanField(default=True)

    class Meta:
        triggers = [pgtrigger.SoftDelete(name="soft_delete", field="is_active")]


class Loud(models.Model):
    """A model whose name the database changes before it is stored, and whose writes it sometimes cancels."""

    name = models.CharField(max_length=50)
    stored = models.IntegerField(default=0)

    class Meta:
        triggers = [
            pgtrigger.Trigger(
                name="shout",
                when=pgtrigger.Before,
                operation=pgtrigger.Insert | pgtrigger.Update,
                func="NEW.name = upper(NEW.name); NEW.stored = coalesce(OLD.stored, 0) + 1; RETURN NEW;",
            ),
            pgtrigger.Trigger(
                name="silence",
                when=pgtrigger.Before,
                operation=pgtrigger.Update | pgtrigger.Delete,
                condition=pgtrigger.Q(old__name="SILENT"),
                func="RETURN NULL;",
            ),
        ]


class State(models.Model):
    status = models.CharField(max_length=20, default="draft")
    locked = models.CharField(max_length=20, default="first")

    class Meta:
        triggers = [
            pgtrigger.FSM(name="status", field="status", transitions=[("draft", "sent")]),
            pgtrigger.ReadOnly(name="locked", fields=["locked"]),
        ]


def make(title, room):
    return Item.objects.create(title=title, room=room)


RECORDS = [
    {"stream": "soft", "model": "mysite.Soft", "fields": ["name", "is_active"]},
    {"stream": "active", "model": "mysite.Soft", "fields": ["name", "is_active"], "where": {"is_active": True}},
    {"stream": "loud", "model": "mysite.Loud", "fields": ["name", "stored"], "groups": ["loud", "n-{name}"]},
    {"stream": "states", "model": "mysite.State", "fields": ["status", "locked"]},
]
HAS_TRIGGERS = True
step = Steps()


@step(raises=DatabaseError)
def protected_delete():
    make("kept", 4).delete()


@step(raises=DatabaseError)
def protected_delete_of_a_query_set():
    Item.objects.filter(title="kept").delete()


@step
def ignored_protection():
    with pgtrigger.ignore("mysite.Item:keep_titled"):
        Item.objects.filter(title="kept").delete()


@step
def ignore_around_writes():
    with pgtrigger.ignore("mysite.Item:keep_titled"):
        row = make("ignored", 1)
        row.room = 2
        row.save()
        Item.objects.filter(pk=row.pk).update(title="updated")
        Item.objects.bulk_create([Item(title="a"), Item(title="b")])
        row.delete()


@step
def soft_delete():
    Soft.objects.create(name="a").delete()


@step
def soft_delete_of_a_query_set():
    Soft.objects.bulk_create([Soft(name="b"), Soft(name="c")])
    Soft.objects.filter(name__in="bc").delete()


@step
def hard_delete():
    with pgtrigger.ignore("mysite.Soft:soft_delete"):
        Soft.objects.all().delete()


@step
def stored_otherwise_than_written():
    row = Loud.objects.create(name="quiet")
    row.name = "calm"
    row.save()


@step
def stored_otherwise_by_bulk_calls():
    Loud.objects.bulk_create([Loud(name="x"), Loud(name="y")])
    rows = list(Loud.objects.filter(name__in="XY"))
    for row in rows:
        row.name = row.name.lower() * 2
    Loud.objects.bulk_update(rows, ["name"])
    Loud.objects.update(name="same")


@step(may_repeat=True)
def cancelled_writes():
    row = Loud.objects.create(name="silent")
    Loud.objects.filter(pk=row.pk).update(name="spoke")
    Loud.objects.filter(pk=row.pk).delete()


@step
def cleared():
    with pgtrigger.ignore("mysite.Loud:silence"):
        Loud.objects.all().delete()


@step
def transition():
    row = State.objects.create()
    row.status = "sent"
    row.save()


@step(raises=DatabaseError)
def forbidden_transition():
    State.objects.filter(status="sent").update(status="draft")


@step(raises=DatabaseError)
def change_of_a_read_only_field():
    row = State.objects.first()
    row.locked = "changed"
    row.save()

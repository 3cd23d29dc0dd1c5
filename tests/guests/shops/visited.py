"""Packages that wrap cursors, compilers and requests: admin pages are visited in addition to the usual writes."""

from __future__ import annotations

from django.contrib import admin
from django.db import models

from tests.guests.steps import Steps
from tests.guests.visits import visit_admin


class Item(models.Model):
    title = models.CharField(max_length=50)
    room = models.IntegerField(default=1)
    labels = models.ManyToManyField("Label", blank=True)


class Label(models.Model):
    name = models.CharField(max_length=20)


admin.site.register(Item)


def make(title, room):
    return Item.objects.create(title=title, room=room)


RECORDS = [{"stream": "listed", "model": "mysite.Item", "fields": ["title", "labels"]}]
step = Steps()
visit_admin(step, "item")

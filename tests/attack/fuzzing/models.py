"""Rows that anonymous clients may write, may only read, or may not see."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.db import models

from .prepare import LOCKED


class Board(models.Model):
    """A row that everyone may write: a column of each type, and two that nobody may write."""

    flag = models.BooleanField(default=False)
    count = models.IntegerField(null=True, blank=True)
    big = models.BigIntegerField(null=True, blank=True)
    ratio = models.FloatField(null=True, blank=True)
    price = models.DecimalField(max_digits=12, decimal_places=3, null=True, blank=True)
    text = models.CharField(max_length=40, blank=True)
    note = models.TextField(blank=True)
    day = models.DateField(null=True, blank=True)
    moment = models.DateTimeField(null=True, blank=True)
    span = models.DurationField(null=True, blank=True)
    code = models.UUIDField(default=uuid.uuid4)
    address = models.GenericIPAddressField(null=True, blank=True)
    info = models.JSONField(default=dict, blank=True)
    parent = models.ForeignKey("self", models.SET_NULL, null=True, blank=True)
    friends = models.ManyToManyField("self", blank=True)
    shown = models.CharField(max_length=10, default=LOCKED, editable=False)
    hidden = models.CharField(max_length=10, default=LOCKED)

    objects: models.Manager[Board] = models.Manager()


class Notice(models.Model):
    """A row that everyone may read."""

    text = models.CharField(max_length=40)

    objects: models.Manager[Notice] = models.Manager()


class Letter(models.Model):
    """A row of one user."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE)
    text = models.CharField(max_length=40)

    objects: models.Manager[Letter] = models.Manager()


class Tick(models.Model):
    """The row whose changes one client counts."""

    number = models.IntegerField(default=0)

    objects: models.Manager[Tick] = models.Manager()

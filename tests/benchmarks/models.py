"""The model that the writers save."""

from __future__ import annotations

from django.db import models


class Price(models.Model):
    """A row of a typical size for a live page. `number` counts the saves, which identifies a frame."""

    symbol = models.CharField(max_length=16)
    value = models.FloatField(default=0.0)
    volume = models.IntegerField(default=0)
    number = models.IntegerField(default=0)

    # Stated for the type checker, whose settings do not install this application.
    objects: models.Manager[Price] = models.Manager()

    class Meta:
        app_label = "benchmarks"

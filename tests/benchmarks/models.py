"""Store what the writers save."""

from __future__ import annotations

from django.db import models


class Price(models.Model):
    """A row of about the size that a live page shows. `number` counts the saves, so that a frame can be told apart."""

    symbol = models.CharField(max_length=16)
    value = models.FloatField(default=0.0)
    volume = models.IntegerField(default=0)
    number = models.IntegerField(default=0)

    # Spelt out for the type checker, whose settings do not install this application.
    objects: models.Manager[Price] = models.Manager()

    class Meta:
        app_label = "benchmarks"

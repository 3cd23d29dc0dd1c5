"""Counts by second and by minute for the charts, and the last use of each stream."""

from __future__ import annotations

from django.db import models

from .columns import ExactCharField


class Activity(models.Model):
    """The counts of one process for a period of ``seconds`` from ``at`` on: 60, or 1 while a chart is watched.

    ``sent`` counts frames handed to connections, ``received`` requests, ``refused`` refusals, ``errors`` faults.
    ``streams`` is ``{stream: [sent, received, refused]}``. Latencies are milliseconds from the write to the
    hand-over to connections. ``deliveries`` is a bounded JSON list of ``[offset, recipients, milliseconds]``. Both
    are recorded only with ``seconds`` 1.
    """

    node = ExactCharField(max_length=32)
    at = models.DateTimeField()
    seconds = models.PositiveSmallIntegerField()
    sent = models.PositiveIntegerField(default=0)
    received = models.PositiveIntegerField(default=0)
    refused = models.PositiveIntegerField(default=0)
    errors = models.PositiveIntegerField(default=0)
    p50 = models.FloatField(null=True)
    p99 = models.FloatField(null=True)
    streams = models.JSONField(default=dict)
    deliveries = models.JSONField(default=list)

    class Meta:
        db_table = "declbind_activity"
        ordering = ("at", "id")
        constraints = (models.UniqueConstraint(fields=("seconds", "at", "node"), name="declbind_activity_once"),)

    def __str__(self) -> str:
        return f"{self.node} {self.at} {self.sent}"


class StreamUse(models.Model):
    """When a stream last sent a frame and last received a request, to the minute."""

    stream = ExactCharField(max_length=64, primary_key=True)
    sent_at = models.DateTimeField(null=True)
    asked_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "declbind_streamuse"

    def __str__(self) -> str:
        return self.stream

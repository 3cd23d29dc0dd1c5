"""The processes that serve sockets, and the configuration that each of them runs."""

from __future__ import annotations

from django.db import models

from .columns import ExactCharField, ExactTextField


class Node(models.Model):
    """The heartbeat of one ASGI process. If the row is not renewed, the process is dead."""

    id = ExactCharField(max_length=32, primary_key=True)
    host = ExactCharField(max_length=200)
    pid = models.PositiveIntegerField()
    generation = ExactCharField(max_length=32, blank=True, default="")
    version = models.BigIntegerField(default=0)
    digest = ExactCharField(max_length=16, blank=True, default="", help_text="Hash of the configuration in force.")
    code = ExactCharField(
        max_length=16, blank=True, default="", help_text="Hash of the models, files and binding classes."
    )
    connections = models.PositiveIntegerField(default=0)
    subscriptions = models.PositiveIntegerField(default=0)
    offset = models.BigIntegerField(default=0, help_text="The last event handed to the connections.")
    streams = models.JSONField(default=dict, help_text="Subscriptions by stream.")
    dropped = models.PositiveBigIntegerField(
        default=0, help_text="Refusals and errors that were not recorded, because there were too many."
    )
    last_error = ExactTextField(blank=True, default="")
    started_at = models.DateTimeField()
    seen_at = models.DateTimeField()

    class Meta:
        db_table = "declbind_node"
        verbose_name = "process"
        verbose_name_plural = "processes"
        ordering = ("started_at", "id")

    def __str__(self) -> str:
        return f"{self.host}:{self.pid}"

"""The fields that the bindings of files and classes may send, as long as their definitions are unchanged.

A record of the database has a column for it: ``BindingRecord.known``.
"""

from __future__ import annotations

from django.db import models

from .columns import ExactCharField


class Baseline(models.Model):
    """The ``names`` of the fields that one definition of a stream sent when it was first in force.

    ``definition`` is a digest of the keys that choose fields. During a deployment, processes with the old and the
    new definition run side by side, so there may be a row for each.
    """

    stream = ExactCharField(max_length=64)
    definition = ExactCharField(max_length=64)
    names = models.JSONField(default=list)
    stored_at = models.DateTimeField(auto_now=True)

    class Meta:
        db_table = "declbind_baseline"
        ordering = ("stream", "id")
        constraints = (models.UniqueConstraint(fields=("stream", "definition"), name="declbind_baseline_unique"),)

    def __str__(self) -> str:
        return f"{self.stream} {self.definition}"

"""Writes to bound tables that left no event."""

from __future__ import annotations

from django.db import models

from .columns import ExactCharField


class UnseenWrite(models.Model):
    """The number of writes of one kind to one table, made by one place in the code, that left no event.

    ``location`` is ``path:line in function``, or "" for the places beyond the limit.
    """

    table = ExactCharField(max_length=128)
    verb = ExactCharField(max_length=16)
    location = ExactCharField(max_length=300, blank=True)
    count = models.BigIntegerField(default=0)
    first_at = models.DateTimeField()
    last_at = models.DateTimeField()

    class Meta:
        db_table = "declbind_unseenwrite"
        constraints = (
            models.UniqueConstraint(fields=("table", "verb", "location"), name="declbind_unseenwrite_place"),
        )

    def __str__(self) -> str:
        return f"{self.verb} {self.table} {self.location}"

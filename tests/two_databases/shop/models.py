"""Notes that name their users by key, because the database could not check a foreign key."""

from __future__ import annotations

from django.db import models


class Note(models.Model):
    """A note in a room."""

    text = models.CharField(max_length=100)
    room = models.IntegerField(default=1)
    writer_pk = models.IntegerField(null=True, blank=True)

    # Stated for the type checker, whose settings do not install this app.
    objects: models.Manager[Note] = models.Manager()

    def __str__(self) -> str:
        return self.text

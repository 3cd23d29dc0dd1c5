"""Notes, each in a room."""

from __future__ import annotations

from django.db import models


class Note(models.Model):
    """A short text in a room."""

    # pyright has no plugin for Django and needs the types of values.
    text: models.CharField[str, str] = models.CharField(max_length=200)
    room: models.IntegerField[int, int] = models.IntegerField(default=1)

"""Rooms, the notes in them, and what notes refer to."""

from django.conf import settings
from django.db import models


class Room(models.Model):
    """A room in which people leave notes."""

    name = models.CharField(max_length=80)


class Tag(models.Model):
    """A word by which notes are found."""

    word = models.CharField(max_length=40)


class Note(models.Model):
    """A note of one user in one room."""

    text = models.TextField()
    done = models.BooleanField(default=False)
    room = models.ForeignKey(Room, on_delete=models.CASCADE)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    tags = models.ManyToManyField(Tag, blank=True)

    @property
    def body(self) -> str:
        """The text under its old name, as the guide about renamed fields has it."""
        return self.text

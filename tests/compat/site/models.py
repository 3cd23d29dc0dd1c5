"""The models that the course binds."""

from django.db import models


class Tag(models.Model):
    """A word that notes are tagged with."""

    word = models.CharField(max_length=20)

    def __str__(self) -> str:
        return self.word


class Note(models.Model):
    """A text in a room; a group for each room, and one for all."""

    room = models.IntegerField()
    text = models.CharField(max_length=200)
    tags = models.ManyToManyField(Tag, blank=True)

    def __str__(self) -> str:
        return f"{self.text} in room {self.room}"


class Reading(models.Model):
    """A row that raw SQL writes; its binding captures by triggers if the database supports them."""

    value = models.IntegerField()

    def __str__(self) -> str:
        return str(self.value)


class Line(models.Model):
    """One of very many rows, for a long snapshot."""

    text = models.CharField(max_length=250)

    def __str__(self) -> str:
        return self.text

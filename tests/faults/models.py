"""The rows that fault tests write."""

from django.db import models


class Item(models.Model):
    """A row that identifies its last write: no two writes, committed or not, share a ``stamp``."""

    room = models.IntegerField()
    stamp = models.CharField(max_length=40)
    text = models.CharField(max_length=40, default="")

    def __str__(self) -> str:
        return f"{self.pk}: {self.stamp} in {self.room}"


class Counter(models.Model):
    """A number that clients increase, each from the value that it received last."""

    value = models.IntegerField(default=0)

    def __str__(self) -> str:
        return str(self.value)

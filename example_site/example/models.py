"""The model that the examples of Channels 1.x were about."""

from django.db import models


class IntegerValue(models.Model):
    """A number with a name."""

    name = models.CharField(max_length=255)
    value = models.IntegerField()

    class Meta:
        ordering = ("name", "pk")

    def __str__(self) -> str:
        return f"{self.name}: {self.value}"

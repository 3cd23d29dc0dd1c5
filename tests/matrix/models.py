"""The kinds of model, identical except for what defines each kind.

They are not managed: otherwise every test with real commits would also empty these tables. A foreign key to an app
with migrations has no database constraint, so that those tables can be emptied without these.
"""

from __future__ import annotations

import uuid
from typing import Any

from django.contrib.contenttypes.fields import GenericForeignKey, GenericRelation
from django.contrib.contenttypes.models import ContentType
from django.db import models


class Shelf(models.Model):
    """The target of a foreign key that is set to null on delete."""

    name = models.CharField(max_length=20)

    class Meta:
        managed = False


class Box(models.Model):
    """The target of a foreign key that cascades."""

    name = models.CharField(max_length=20)

    class Meta:
        managed = False


class Label(models.Model):
    name = models.CharField(max_length=20)

    class Meta:
        managed = False


class Holder(models.Model):
    name = models.CharField(max_length=20)

    class Meta:
        managed = False


class Piece(models.Model):
    """The base of all kinds: a group (``room``), a condition (``is_open``), relations of each sort."""

    name = models.CharField(max_length=30, unique=True)
    value = models.IntegerField(default=0)
    room = models.IntegerField(null=True)
    is_open = models.BooleanField(default=True)
    shelf = models.ForeignKey(Shelf, null=True, on_delete=models.SET_NULL)
    box = models.ForeignKey(Box, null=True, on_delete=models.CASCADE)
    labels = models.ManyToManyField(Label)

    class Meta:
        abstract = True
        managed = False


class Plain(Piece):
    """A model with an integer key."""


class Crate(Piece):
    """A model with a key that is made in Python."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)


class Country(Piece):
    """A model with a key that must be given."""

    code = models.CharField(max_length=10, primary_key=True)


class Profile(Piece):
    """A model with a key that is another row's."""

    holder = models.OneToOneField(Holder, primary_key=True, on_delete=models.CASCADE)


class Base(Piece):
    """A parent by multi-table inheritance."""


class Branch(Base):
    """A child of it."""

    extra = models.IntegerField(default=0)

    class Meta:
        managed = False


class Twig(Branch):
    """A grandchild of it."""

    leaf = models.IntegerField(default=0)

    class Meta:
        managed = False


class Crown(models.Model):
    """A second parent, with a key of its own."""

    crown_id = models.BigAutoField(primary_key=True)
    height = models.IntegerField(default=0)

    class Meta:
        managed = False


class Palm(Base, Crown):
    """A child of two parents."""

    extra = models.IntegerField(default=0)

    class Meta:
        managed = False


class Sheet(Plain):
    """A proxy model."""

    class Meta:
        proxy = True


class AwakeManager(models.Manager["Sleeper"]):
    def get_queryset(self) -> models.QuerySet[Sleeper]:
        """Leave out sleeping rows."""
        return super().get_queryset().filter(asleep=False)


class Sleeper(Piece):
    """A model whose base manager may hide rows."""

    asleep = models.BooleanField(default=False)

    objects = models.Manager()
    awake = AwakeManager()

    class Meta(Piece.Meta):
        base_manager_name = "awake"


class Sluggish(Piece):
    """A model whose own ``save`` fills a column and counts."""

    slug = models.CharField(max_length=400, default="")
    saves = models.IntegerField(default=0)

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Set the slug and count, as projects do."""
        self.slug = f"{self.name}-{self.room}".lower()
        self.saves += 1
        if kwargs.get("update_fields") is not None:
            kwargs["update_fields"] = {*kwargs["update_fields"], "slug", "saves"}
        super().save(*args, **kwargs)


class Dated(Piece):
    """A model with columns that saving sets."""

    created = models.DateTimeField(auto_now_add=True)
    changed = models.DateTimeField(auto_now=True)


class Computed(Piece):
    """A model with columns that the database fills."""

    doubled = models.GeneratedField(
        expression=models.F("value") * 2, output_field=models.IntegerField(), db_persist=True
    )
    level = models.IntegerField(db_default=7)


class Member(models.Model):
    """A through model of the project."""

    listed = models.ForeignKey("Listed", on_delete=models.CASCADE)
    label = models.ForeignKey(Label, on_delete=models.CASCADE)
    since = models.IntegerField(null=True)

    class Meta:
        managed = False


class Listed(Piece):
    """A model with a list through a model of the project."""

    labels = models.ManyToManyField(Label, through=Member)  # type: ignore[assignment]


class Tree(Piece):
    """A model with relations to rows of the same model."""

    parent = models.ForeignKey("self", null=True, on_delete=models.CASCADE, related_name="children")
    neighbours = models.ManyToManyField("self")


class Host(models.Model):
    """The target of generic relations."""

    name = models.CharField(max_length=20)
    notes = GenericRelation("matrix.Note")

    class Meta:
        managed = False


class Note(Piece):
    """A model with a generic relation."""

    content_type = models.ForeignKey(ContentType, null=True, on_delete=models.CASCADE, db_constraint=False)
    object_id = models.IntegerField(null=True)
    about = GenericForeignKey()

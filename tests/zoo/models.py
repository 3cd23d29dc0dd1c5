"""Models with every kind of column, relation and rule that a write may meet.

Keys into apps with migrations carry no database constraint: tables without migrations are made before those.
"""

from __future__ import annotations

import uuid
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator
from django.db import models
from django.utils.text import slugify

from tests.zoo import columns, guests, own_fields  # noqa: F401 - the rest of this app's models


class Keeper(models.Model):
    name = models.CharField(max_length=50)
    retired = models.BooleanField(default=False)


class Food(models.Model):
    name = models.CharField(max_length=50, unique=True)
    poisonous = models.BooleanField(default=False)


class Animal(models.Model):
    """A model with rules of its own: ``clean``, a constraint, a unique pair, a ``save`` that fills ``slug``."""

    KINDS = (("bird", "Bird"), ("fish", "Fish"))

    name = models.CharField(max_length=50)
    slug = models.SlugField(max_length=60, unique=True, editable=False)
    kind = models.CharField(max_length=10, choices=KINDS, default="bird")
    legs = models.IntegerField(default=2)
    weight = models.FloatField(null=True, blank=True, validators=[MinValueValidator(0.0)])
    status = models.CharField(max_length=10, default="open")
    secret_token = models.CharField(max_length=20, default="hidden")
    keeper = models.ForeignKey(
        Keeper, null=True, blank=True, on_delete=models.SET_NULL, limit_choices_to={"retired": False}
    )
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.CASCADE, db_constraint=False
    )
    foods = models.ManyToManyField(Food, blank=True, limit_choices_to={"poisonous": False})
    created = models.DateTimeField(auto_now_add=True)
    changed = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=("name", "kind"), name="zoo_animal_name_kind"),
            models.CheckConstraint(condition=models.Q(legs__lte=1000), name="zoo_animal_legs"),
        )
        permissions = (("feed_animal", "Can feed an animal"),)

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Set the slug, as projects do."""
        self.slug = self.slug or slugify(f"{self.name} {self.kind}")
        super().save(*args, **kwargs)

    def clean(self) -> None:
        """Refuse walking fish; the error is under a field that the client may not have sent."""
        if self.kind == "fish" and self.legs:
            raise ValidationError({"legs": "A fish has no legs."})
        if self.status == "lost":
            raise ValidationError({"secret_token": "Nobody can lose this one."})


class Cage(models.Model):
    """A row that prevents the deletion of its animal."""

    animal = models.ForeignKey(Animal, on_delete=models.PROTECT)


class Sample(models.Model):
    """One column of each type, none of them required."""

    flag = models.BooleanField(default=False)
    maybe = models.BooleanField(null=True)
    small = models.SmallIntegerField(null=True, blank=True)
    count = models.PositiveIntegerField(null=True, blank=True)
    big = models.BigIntegerField(null=True, blank=True)
    ratio = models.FloatField(null=True, blank=True)
    price = models.DecimalField(max_digits=8, decimal_places=2, null=True, blank=True)
    text = models.CharField(max_length=20, null=True, blank=True)
    note = models.TextField(blank=True)
    code = models.SlugField(blank=True)
    mail = models.EmailField(blank=True)
    site = models.URLField(blank=True)
    day = models.DateField(null=True, blank=True)
    moment = models.DateTimeField(null=True, blank=True)
    clock = models.TimeField(null=True, blank=True)
    span = models.DurationField(null=True, blank=True)
    key = models.UUIDField(null=True, blank=True)
    address = models.GenericIPAddressField(null=True, blank=True)
    level = models.IntegerField(choices=((1, "low"), (2, "high")), null=True, blank=True)
    info = models.JSONField(default=dict, blank=True)
    extra = models.JSONField(null=True)
    blob = models.BinaryField(null=True, blank=True, editable=True)
    upload = models.FileField(blank=True)
    required_null = models.IntegerField(null=True)


class Strict(models.Model):
    """A model with required columns."""

    title = models.CharField(max_length=20)
    number = models.IntegerField()
    flag = models.BooleanField()
    foods = models.ManyToManyField(Food)


class Crate(models.Model):
    """A key that the server generates."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    label = models.CharField(max_length=20)


class Parcel(models.Model):
    """A generated column."""

    width = models.IntegerField(default=1)
    area = models.GeneratedField(expression=models.F("width") * 2, output_field=models.IntegerField(), db_persist=True)


class Country(models.Model):
    """A key that has no default."""

    code = models.CharField(max_length=2, primary_key=True)
    name = models.CharField(max_length=20)


class Profile(models.Model):
    """A row whose key is its owner's."""

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, primary_key=True, on_delete=models.CASCADE, db_constraint=False
    )
    bio = models.CharField(max_length=100, blank=True)


class Vehicle(models.Model):
    plate = models.CharField(max_length=10, unique=True)


class Truck(Vehicle):
    """A child by multi-table inheritance."""

    load = models.IntegerField(default=0)


class Tractor(Vehicle):
    """A proxy model."""

    class Meta:
        proxy = True


class Lorry(Truck):
    """A grandchild by multi-table inheritance."""

    trailers = models.IntegerField(default=0)


class Feather(models.Model):
    """A row that is deleted with its animal."""

    animal = models.ForeignKey(Animal, on_delete=models.CASCADE)
    colour = models.CharField(max_length=20)


class Herd(models.Model):
    """Lists of two more kinds: with a through model, and of rows of the same model."""

    name = models.CharField(max_length=50)
    members = models.ManyToManyField(Animal, through="Membership")
    neighbours = models.ManyToManyField("self")


class Membership(models.Model):
    herd = models.ForeignKey(Herd, on_delete=models.CASCADE)
    animal = models.ForeignKey(Animal, on_delete=models.CASCADE)
    since = models.DateField(null=True)


class AwakeManager(models.Manager["Bear"]):
    def get_queryset(self) -> models.QuerySet[Bear]:
        """Leave out sleeping rows."""
        return super().get_queryset().filter(asleep=False)


class Bear(models.Model):
    """A row that its own base manager may hide."""

    name = models.CharField(max_length=50)
    den = models.IntegerField(default=0)
    asleep = models.BooleanField(default=False)

    awake = AwakeManager()

    class Meta:
        base_manager_name = "awake"

"""Models with a column of every type that Django has, and with keys of every possible type."""

from __future__ import annotations

import importlib.util
import uuid
from pathlib import Path
from typing import Any

from django.contrib.contenttypes.fields import GenericForeignKey, GenericRelation
from django.contrib.contenttypes.models import ContentType
from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.db.models.functions import Lower

HAS_PILLOW = importlib.util.find_spec("PIL") is not None


class Size(models.IntegerChoices):
    SMALL = 1
    HUGE = 2**60


class Mood(models.TextChoices):
    CALM = "calm"
    WILD = "wild"


#: The folder whose files a column may name.
SHELF = Path(__file__).parent


class Column(models.Model):
    """One column of each type, all of which may be empty."""

    big_integer = models.BigIntegerField(null=True, blank=True)
    binary = models.BinaryField(null=True, blank=True, editable=True)
    boolean = models.BooleanField(null=True, blank=True)
    char = models.CharField(max_length=100, null=True, blank=True)
    date = models.DateField(null=True, blank=True)
    date_time = models.DateTimeField(null=True, blank=True)
    decimal = models.DecimalField(max_digits=14, decimal_places=4, null=True, blank=True)
    duration = models.DurationField(null=True, blank=True)
    email = models.EmailField(null=True, blank=True)
    file = models.FileField(null=True, blank=True)
    file_path = models.FilePathField(path=str(SHELF), match=r"\.py$", null=True, blank=True)
    float = models.FloatField(null=True, blank=True)
    generated = models.GeneratedField(
        expression=Lower("char"), output_field=models.CharField(max_length=100), db_persist=True
    )
    ip_address = models.GenericIPAddressField(null=True, blank=True)
    if HAS_PILLOW:
        image = models.ImageField(null=True, blank=True)
    integer = models.IntegerField(null=True, blank=True)
    json = models.JSONField(null=True, blank=True)
    json_encoded = models.JSONField(null=True, blank=True, encoder=DjangoJSONEncoder)
    mood = models.CharField(max_length=10, choices=Mood, null=True, blank=True)
    positive_big_integer = models.PositiveBigIntegerField(null=True, blank=True)
    positive_integer = models.PositiveIntegerField(null=True, blank=True)
    positive_small_integer = models.PositiveSmallIntegerField(null=True, blank=True)
    size = models.BigIntegerField(choices=Size, null=True, blank=True)
    slug = models.SlugField(null=True, blank=True)
    small_integer = models.SmallIntegerField(null=True, blank=True)
    text = models.TextField(null=True, blank=True)
    time = models.TimeField(null=True, blank=True)
    url = models.URLField(null=True, blank=True)
    uuid = models.UUIDField(null=True, blank=True)


# Keys ----------------------------------------------------------------------------------------------------------------


class AutoKey(models.Model):
    id = models.AutoField(primary_key=True)
    label = models.CharField(max_length=20, blank=True)


class SmallAutoKey(models.Model):
    id = models.SmallAutoField(primary_key=True)
    label = models.CharField(max_length=20, blank=True)


class BigAutoKey(models.Model):
    id = models.BigAutoField(primary_key=True)
    label = models.CharField(max_length=20, blank=True)


class UuidKey(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    label = models.CharField(max_length=20, blank=True)


class TextKey(models.Model):
    code = models.CharField(max_length=100, primary_key=True)
    label = models.CharField(max_length=20, blank=True)


class BigKey(models.Model):
    """A key that others assign, like the ids of social networks."""

    number = models.BigIntegerField(primary_key=True)
    label = models.CharField(max_length=20, blank=True)
    friends = models.ManyToManyField("self", symmetrical=False, blank=True)


class DecimalKey(models.Model):
    number = models.DecimalField(max_digits=12, decimal_places=3, primary_key=True)
    label = models.CharField(max_length=20, blank=True)


class MomentKey(models.Model):
    at = models.DateTimeField(primary_key=True)
    label = models.CharField(max_length=20, blank=True)


class ShortBinaryField(models.BinaryField):
    """Bytes of a bounded length: MySQL and MariaDB have no keys over the `longblob` of a `BinaryField`."""

    def db_type(self, connection: Any) -> str | None:
        return "varbinary(64)" if connection.vendor == "mysql" else super().db_type(connection)


class BinaryKey(models.Model):
    digest = ShortBinaryField(primary_key=True)
    label = models.CharField(max_length=20, blank=True)


class OneToOneKey(models.Model):
    """A row whose key is another row, which has a large key."""

    owner = models.OneToOneField(BigKey, primary_key=True, on_delete=models.CASCADE)
    label = models.CharField(max_length=20, blank=True)


class Coin(models.Model):
    """A row that is referred to by another column than its key."""

    code = models.CharField(max_length=40, unique=True)
    serial = models.BigIntegerField(unique=True)


class Related(models.Model):
    """A row that refers to others by keys of each kind."""

    coin = models.ForeignKey(Coin, null=True, blank=True, to_field="code", on_delete=models.CASCADE, related_name="+")
    serial = models.ForeignKey(
        Coin, null=True, blank=True, to_field="serial", on_delete=models.CASCADE, related_name="+"
    )
    text = models.ForeignKey(TextKey, null=True, blank=True, on_delete=models.CASCADE)
    uuid = models.ForeignKey(UuidKey, null=True, blank=True, on_delete=models.CASCADE)
    big = models.ForeignKey(BigKey, null=True, blank=True, on_delete=models.CASCADE)
    moment = models.ForeignKey(MomentKey, null=True, blank=True, on_delete=models.CASCADE)
    chain = models.ForeignKey(OneToOneKey, null=True, blank=True, on_delete=models.CASCADE)
    coins = models.ManyToManyField(Coin, blank=True)
    texts = models.ManyToManyField(TextKey, blank=True, related_name="+")


class Order(models.Model):
    name = models.CharField(max_length=20)


class Line(models.Model):
    """A row with an order among others, and a relation over a column that is no key in the database."""

    order = models.ForeignKey(Order, on_delete=models.CASCADE)
    number = models.IntegerField(default=0)
    coin_serial = models.BigIntegerField(null=True)
    coin = models.ForeignObject(
        Coin,
        on_delete=models.DO_NOTHING,
        from_fields=["coin_serial"],
        to_fields=["serial"],
        null=True,
        related_name="+",
    )

    class Meta:
        order_with_respect_to = "order"


class Seat(models.Model):
    """A row that is identified by two columns."""

    pk = models.CompositePrimaryKey("row", "number")
    row = models.IntegerField()
    number = models.IntegerField()


class Hall(models.Model):
    """A row whose list is stored in rows that are identified by two columns."""

    name = models.CharField(max_length=20)
    guests: Any = models.ManyToManyField(Coin, through="Ticket")


class Ticket(models.Model):
    pk = models.CompositePrimaryKey("hall_id", "guest_id")
    hall = models.ForeignKey(Hall, on_delete=models.CASCADE)
    guest = models.ForeignKey(Coin, on_delete=models.CASCADE)


# Generic relations ---------------------------------------------------------------------------------------------------


class Tag(models.Model):
    """A row that belongs to a row of any model.

    The content type has no constraint in the database, because its table is created after those of this app.
    """

    word = models.CharField(max_length=20)
    content_type = models.ForeignKey(
        ContentType, null=True, blank=True, on_delete=models.CASCADE, db_constraint=False, related_name="+"
    )
    object_id = models.BigIntegerField(null=True, blank=True)
    target = GenericForeignKey()


class Picture(models.Model):
    title = models.CharField(max_length=20)
    tags = GenericRelation(Tag)


# Tables and rows that Django does not show ---------------------------------------------------------------------------


class Foreign(models.Model):
    """An unmanaged table."""

    name = models.CharField(max_length=20)
    amount = models.IntegerField(default=0)

    class Meta:
        managed = False
        db_table = "somebody_elses"


class PublishedManager(models.Manager["Page"]):
    def get_queryset(self) -> models.QuerySet[Page]:
        """Leave out drafts."""
        return super().get_queryset().filter(draft=False)


class Page(models.Model):
    """A row that its default manager may hide, while its base manager shows all."""

    title = models.CharField(max_length=20)
    draft = models.BooleanField(default=False)

    published = PublishedManager()
    everything: Any = models.Manager()

"""Models with code of their own between a row and its instance, as packages and projects have them."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.models import functions
from django.utils import translation


class Note(models.Model):
    """The columns of all models here."""

    text = models.CharField(max_length=50)
    room = models.IntegerField(default=1)

    class Meta:
        abstract = True


class Remembering(Note):
    """A model that stores its values when it is loaded, which loads deferred fields."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.was = self.text, self.room


class Locked(Note):
    """A model that cannot be loaded from the database."""

    is_open = False

    @classmethod
    def from_db(cls, *args: object, **kwargs: object) -> Any:
        raise PermissionError("from_db is closed")

    def refresh_from_db(self, *args: object, **kwargs: object) -> None:
        raise PermissionError("refresh_from_db is closed")


class Translated:
    """A descriptor whose value depends on the language of the thread."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, instance: object, owner: object = None) -> object:
        if instance is None:
            return self
        text = instance.__dict__[self.name]
        return text.upper() if translation.get_language() == "de" else text

    def __set__(self, instance: object, value: object) -> None:
        instance.__dict__[self.name] = value


class Speaking(Note):
    """A model with a descriptor over a Django field."""


Speaking.text = Translated("text")  # type: ignore[assignment]


class Stamped(models.IntegerField):
    """A field that stores another value than the instance keeps."""

    def pre_save(self, model_instance: models.Model, add: bool) -> int:
        """Return the value plus one, and leave the instance unchanged."""
        value: int = getattr(model_instance, self.attname)
        return value + 1


class Counted(Note):
    stamp = Stamped(default=0)


class Versioned(Note):
    """A model that counts its updates, as packages for optimistic locking do."""

    version = models.IntegerField(default=0)

    def _do_update(
        self, base_qs: Any, using: Any, pk_val: Any, values: Any, update_fields: Any, forced_update: Any, *more: Any
    ) -> Any:
        values = [
            (field, model, models.F("version") + 1 if field.name == "version" else value)
            for field, model, value in values
        ]
        return super()._do_update(base_qs, using, pk_val, values, update_fields, forced_update, *more)


class Rounded(Note):
    """A model with a decimal number as its key."""

    id = models.DecimalField(max_digits=8, decimal_places=3, primary_key=True)


class Kept(Note):
    """A model whose columns can be replaced by tables with other names and types."""

    is_gone = models.BooleanField(default=False)


class Quoted(Note):
    """A model with names that SQL has to quote."""

    order = models.IntegerField(db_column="Order (1)", default=1)

    class Meta:
        db_table = "zoo_Quoted Table"


class Viewed(Note):
    """A model of a view's rows."""

    class Meta:
        managed = False
        db_table = "zoo_viewed"


MANAGERS: dict[str, object] = {
    "annotates": lambda rows: rows.annotate(count=models.Count("pk")),
    "distinct": lambda rows: rows.distinct(),
    "joins": lambda rows: rows.select_related("friend"),
    "groups": lambda rows: rows.values("room").annotate(count=models.Count("pk")),
    "ranks": lambda rows: rows.annotate(rank=models.Window(functions.RowNumber(), order_by="pk")),
    "defers": lambda rows: rows.defer("text"),
    "orders": lambda rows: rows.order_by("-room", "text"),
    "extra": lambda rows: rows.extra(select={"one": "1"}),
}


class OddManager(models.Manager["Managed"]):
    """A manager that runs a test's function."""

    mind: Any = None

    def get_queryset(self) -> models.QuerySet[Managed]:
        rows = super().get_queryset()
        return rows if OddManager.mind is None else OddManager.mind(rows)


class Managed(Note):
    """A model whose base manager may do anything."""

    friend = models.ForeignKey("self", models.SET_NULL, null=True)

    objects = models.Manager["Managed"]()
    odd = OddManager()

    class Meta:
        base_manager_name = "odd"

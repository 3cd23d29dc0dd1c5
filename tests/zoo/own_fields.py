"""Fields as packages and projects write them, and models that use them as columns, keys, relations and lists.

Their values are of classes that JSON has no form for, or compare in another way than their columns.
"""

from __future__ import annotations

import dataclasses
import enum
import itertools
import json
from collections.abc import Iterable
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.db import connection, models
from django.db.models import lookups

#: A collation that ignores case, if the database has one by default.
FOLDING = "NOCASE" if connection.vendor == "sqlite" else None


class Tag:
    """A number that people see as text, such as a hash id or a ULID."""

    def __init__(self, number: int) -> None:
        self.number = number

    @classmethod
    def parse(cls, text: str) -> Tag:
        if not text.startswith("t-"):
            raise ValidationError("Expected a tag.", code="invalid")
        return cls(int(text[2:]))

    def __str__(self) -> str:
        return f"t-{self.number}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tag) and self.number == other.number

    def __hash__(self) -> int:
        return hash(self.number)


class _TagMixin:
    def to_python(self, value: Tag | int | str | None) -> Tag | None:
        if value is None or isinstance(value, Tag):
            return value
        return Tag(value) if isinstance(value, int) else Tag.parse(value)

    def from_db_value(self, value: int | None, expression: object, connection: object) -> Tag | None:
        return None if value is None else Tag(value)

    def get_prep_value(self, value: Tag | int | str | None) -> int | None:
        tag = self.to_python(value)
        return None if tag is None else tag.number

    def formfield(self, **kwargs: object) -> forms.Field:
        return forms.CharField()

    @property
    def validators(self) -> list[Any]:
        return []


class TagField(_TagMixin, models.IntegerField):
    """A column of tags."""


class AutoTagField(_TagMixin, models.BigAutoField):  # type: ignore[misc]
    """A key that the database generates and users see as a tag."""


class Colour(enum.Enum):
    RED = "r"
    BLUE = "b"


class ColourField(models.CharField):
    """A column of a plain enumeration."""

    def to_python(self, value: Colour | str | None) -> Colour | None:
        return value if value is None or isinstance(value, Colour) else Colour(value)

    def from_db_value(self, value: str | None, expression: object, connection: object) -> Colour | None:
        return None if value is None else Colour(value)

    def get_prep_value(self, value: Any) -> object:
        colour = self.to_python(value)
        return None if colour is None else colour.value

    def value_to_string(self, obj: models.Model) -> str:
        return str(self.get_prep_value(self.value_from_object(obj)))


class SetField(models.CharField):
    """A column of comma-separated words that is read as a set."""

    def to_python(self, value: object) -> object:
        return frozenset(value.split(",")) if isinstance(value, str) else value

    def from_db_value(self, value: str | None, expression: object, connection: object) -> object:
        return self.to_python(value)

    def get_prep_value(self, value: Any) -> object:
        return value if value is None or isinstance(value, str) else ",".join(sorted(value))

    def value_to_string(self, obj: models.Model) -> str:
        return str(self.get_prep_value(self.value_from_object(obj)))


@dataclasses.dataclass(frozen=True)
class Size:
    width: int = 1


class SizeField(models.JSONField):
    """A document that is read as a dataclass."""

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> object:
        found = super().from_db_value(value, expression, connection)
        return None if found is None else Size(**found)

    def get_prep_value(self, value: object) -> object:
        return dataclasses.asdict(value) if isinstance(value, Size) else value


class SetDecoder(json.JSONDecoder):
    """A decoder that turns lists into sets."""

    def decode(self, text: str, *args: Any) -> Any:
        return {key: set(value) for key, value in super().decode(text, *args).items()}


class SetEncoder(json.JSONEncoder):
    """The inverse of the decoder."""

    def default(self, value: object) -> object:
        return sorted(value) if isinstance(value, set) else super().default(value)


class Mute:
    """A value that cannot be written as text."""


class MuteField(models.IntegerField):
    """A column whose large values have no text form."""

    def from_db_value(self, value: int | None, expression: object, connection: object) -> Mute | int | None:
        return Mute() if value is not None and value > 10 else value


class AlwaysMuteField(models.IntegerField):
    """A column whose values have no text form."""

    def from_db_value(self, value: int | None, expression: object, connection: object) -> Mute | None:
        return None if value is None else Mute()


class BlurredField(models.CharField):
    """A column that reads texts in one case, although queries distinguish case."""

    def from_db_value(self, value: str | None, expression: object, connection: object) -> str | None:
        return value and value.lower()


class SealedField(models.CharField):
    """A column that stores a text differently each time, as encryption does."""

    def get_prep_value(self, value: object) -> object:
        return value and f"{next(COUNTER)}:{value}"

    def from_db_value(self, value: str | None, expression: object, connection: object) -> str | None:
        return value and value.partition(":")[2]


class OneWayField(models.IntegerField):
    """A column whose values are written in a form that it cannot read."""

    def from_db_value(self, value: int | None, expression: object, connection: object) -> Tag | None:
        return None if value is None else Tag(value)


COUNTER = itertools.count()


class LowerField(models.CharField):
    """A column that stores lower case, while the instance keeps its value."""

    def get_prep_value(self, value: Any) -> object:
        value = super().get_prep_value(value)
        return value and value.lower()


class FoldedField(models.CharField):
    """A column that queries compare without regard to case."""


FoldedField.register_lookup(lookups.IExact, "exact")


class Tagged(models.Model):
    """A model whose key has a class of its own."""

    id = AutoTagField(primary_key=True)
    name = models.CharField(max_length=20)


class TaggedLink(models.Model):
    """Relations to such a key."""

    tagged = models.ForeignKey(Tagged, null=True, blank=True, on_delete=models.CASCADE)
    several = models.ManyToManyField(Tagged, related_name="links", blank=True)


class OwnValues(models.Model):
    """Columns of values that JSON has no form for."""

    tag = TagField(null=True, blank=True)
    colour = ColourField(max_length=1, null=True, blank=True)
    words = SetField(max_length=50, null=True, blank=True)
    size = SizeField(null=True, blank=True)
    sets = models.JSONField(null=True, blank=True, encoder=SetEncoder, decoder=SetDecoder)


class MuteValues(models.Model):
    name = models.CharField(max_length=20)
    mute = MuteField(null=True)


class Odd(models.Model):
    """Columns that cannot do everything that a record may require of a column."""

    mute = AlwaysMuteField(null=True)
    blurred = BlurredField(max_length=20, default="")
    sealed = SealedField(max_length=50, default="")
    one_way = OneWayField(null=True)
    size = SizeField(null=True)


class DocumentKey(models.Model):
    """A key that no request can express. It is only validated, because MariaDB cannot create such a table."""

    id = models.JSONField(primary_key=True)
    name = models.CharField(max_length=20)

    class Meta:
        managed = False


class _Visible(models.Manager):
    def get_queryset(self) -> Any:
        return super().get_queryset().filter(removed=False)


class Removable(models.Model):
    """Rows that are deleted by a flag, which the default manager hides."""

    name = models.CharField(max_length=20)
    removed = models.BooleanField(default=False)

    objects = _Visible()


class OwnEquality(models.Model):
    """Columns that queries compare in ways of their own."""

    address = models.CharField(max_length=50, db_collation=FOLDING)
    nick = LowerField(max_length=50, default="")
    folded = FoldedField(max_length=50, default="")
    info = models.JSONField(default=dict)


# --- what clients write -----------------------------------------------------------------------------------------------


class WordsField(models.CharField):
    """Comma-separated words, read as a list and chosen in a form with multiple choices."""

    def to_python(self, value: object) -> object:
        return value.split(",") if isinstance(value, str) else value

    def from_db_value(self, value: str | None, expression: object, connection: object) -> object:
        return None if value is None else self.to_python(value)

    def get_prep_value(self, value: object) -> object:
        return ",".join(value) if isinstance(value, list) else value

    def validate(self, value: Any, model_instance: models.Model | None) -> None:
        if not set(value) <= {"s", "l"}:
            raise ValidationError("Expected sizes.", code="invalid")

    def formfield(self, **kwargs: object) -> forms.Field:
        return forms.MultipleChoiceField(choices=[("s", "S"), ("l", "L")], required=False)


class PlainListField(WordsField):
    """The same with a text form field."""

    def formfield(self, **kwargs: object) -> forms.Field:
        return forms.CharField()


class _AmountForm(forms.MultiValueField):
    def __init__(self) -> None:
        super().__init__([forms.DecimalField(), forms.CharField()])
        self.widget = forms.MultiWidget([forms.TextInput(), forms.TextInput()])

    def compress(self, data_list: Iterable[object]) -> tuple[object, ...]:
        return tuple(data_list)


class _AmountDescriptor:
    """A descriptor that returns the amount, and also sets its unit when the amount is set."""

    def __init__(self, field: AmountField) -> None:
        self.field = field

    def __get__(self, instance: models.Model | None, owner: object = None) -> object:
        return self if instance is None else instance.__dict__[self.field.attname]

    def __set__(self, instance: Parcelled, value: Any) -> None:
        if isinstance(value, tuple):
            value, instance.unit = value
        instance.__dict__[self.field.attname] = self.field.to_python(value)


class AmountField(models.DecimalField):
    """An amount whose unit is in a column beside it."""

    def contribute_to_class(self, cls: type[models.Model], name: str, private_only: bool = False) -> None:
        super().contribute_to_class(cls, name, private_only)
        setattr(cls, name, _AmountDescriptor(self))

    def formfield(self, **kwargs: object) -> forms.Field:
        return _AmountForm()


class _Refusing:
    def __init__(self, field: RefusingField) -> None:
        self.field = field

    def __get__(self, instance: models.Model | None, owner: object = None) -> object:
        return self if instance is None else instance.__dict__[self.field.attname]

    def __set__(self, instance: models.Model, value: str) -> None:
        if value in REFUSED:
            raise REFUSED[value]
        instance.__dict__[self.field.attname] = value


#: The setter's error message for some values.
REFUSED: dict[object, Exception] = {
    "value": ValueError("not this one"),
    "type": TypeError("not this one"),
    "invalid": ValidationError("not this one"),
    "zero": ZeroDivisionError("not this one"),
}


class RefusingField(models.CharField):
    """A column whose descriptor refuses some values."""

    def contribute_to_class(self, cls: type[models.Model], name: str, private_only: bool = False) -> None:
        super().contribute_to_class(cls, name, private_only)
        setattr(cls, name, _Refusing(self))


class CountedField(models.IntegerField):
    """A column that counts the saves of its row."""

    def pre_save(self, model_instance: models.Model, add: bool) -> int:
        number: int = (getattr(model_instance, self.attname) or 0) + 1
        setattr(model_instance, self.attname, number)
        return number


class Parcelled(models.Model):
    """Columns that forms and descriptors treat in ways of their own."""

    words = WordsField(max_length=20, default="s", blank=True)
    plain_list = PlainListField(max_length=20, default="s", blank=True)
    unit = models.CharField(max_length=3, default="kg", editable=False)
    amount = AmountField(max_digits=6, decimal_places=2, default=1)
    refusing = RefusingField(max_length=20, default="", blank=True)
    saves = CountedField(default=0, editable=False)

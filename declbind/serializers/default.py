"""The default serializer: the bound fields of a row, each as one JSON value."""

from __future__ import annotations

import base64
import datetime as dt
import decimal
import json
import uuid
from typing import Any, Final, Protocol

from django.db import models
from django.utils.functional import Promise

from declbind.django_types import Column, through_of
from declbind.stored_rows import AnyRow, value_of
from declbind.stored_values import column_of, holds_documents, write_value

from .exact import MAX_EXACT, SCALARS, exact_key, in_utc, keep_exact
from .lists import related_keys

AS_THEY_ARE: Final = frozenset({str, bool, float, dt.date, uuid.UUID})
#: The classes of single values that Django's JSON encoder can encode, including lazy text.
ENCODABLE: Final = (*SCALARS, Promise)


class BoundFields(Protocol):
    """The part of a binding that the default serializer needs."""

    def bound_fields(self) -> tuple[Column, ...]:
        """Return the fields that are sent."""
        ...


def serialize_fields(row: AnyRow, binding: BoundFields) -> dict[str, object]:
    """Return ``{field name: value}`` for the bound fields of a stored row.

    A foreign key is sent as the related key, under the field's name. A many-to-many field is a sorted list of keys. A
    file is its name, bytes are base64, and a range is an object with its bounds. An integer beyond ``2**53 - 1`` is a
    string.
    """
    return {field.name: field_value(row, field) for field in binding.bound_fields()}


def field_value(row: AnyRow, field: Column) -> object:
    """Return the value of one field of a stored row, in a form that the JSON encoder accepts."""
    if isinstance(field, models.ManyToManyField):
        target = through_of(field)._meta.get_field(field.m2m_reverse_field_name())
        assert isinstance(target, models.Field)
        return [exact_key(key, target) for key in related_keys(row, field)]
    value = value_of(row, column_of(field).attname)
    # Most values are sent unchanged and are handled first, because every check here slows down every save.
    if type(value) is int and -MAX_EXACT <= value <= MAX_EXACT:
        return value
    if type(value) in AS_THEY_ARE:
        return value
    return json_value(field, value)


def json_value(field: Column, value: object) -> object:
    """Return a value of a field in a form that the JSON encoder accepts.

    Values of classes that the encoder does not know are converted as Django's own serializers do (``value_to_string``).

    Raises:
        TypeError: The value has no JSON form.
    """
    if value is None:
        # An instance's file field that has no file.
        return "" if isinstance(field, models.FileField) else None
    if holds_documents(field):
        return _document(field, value)
    if field.is_relation:
        return exact_key(value, field)
    written = column_value(value, field)
    return written if _is_encodable(written) else write_value(field, value)


def column_value(value: object, field: Column | None = None) -> object:
    """Return the value of a column, list item or range bound in a form that the JSON encoder accepts.

    ``field`` is the column's field, if known. Items of its lists are converted by its ``base_field``.
    """
    if isinstance(value, int):
        return keep_exact(value)
    if isinstance(value, models.fields.files.FieldFile):
        return value.name or ""
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, decimal.Decimal):
        return value if value.is_finite() else None
    if isinstance(value, dt.datetime):
        return in_utc(value)
    if isinstance(value, dt.time) and value.tzinfo is not None:
        return value.isoformat()
    base = getattr(field, "base_field", None)
    if isinstance(value, list | tuple):
        return [column_value(item) if base is None else json_value(base, item) for item in value]
    # A range type of psycopg. It is recognised without an import, because psycopg may not be installed.
    return _range_value(value, base) if hasattr(value, "lower_inc") and hasattr(value, "isempty") else value


def _document(field: Any, value: Any) -> object:
    """Return a JSON document as the column stores it. Most documents are plain JSON and are returned unchanged."""
    if not isinstance(field, models.JSONField):
        return [None if item is None else _document(field.base_field, item) for item in value]
    if (type(field) is models.JSONField and field.decoder is None) or _is_json(value):
        return value
    # This is a pydantic model, or another object of the project's decoder. The field knows how to store it.
    return json.loads(json.dumps(field.get_prep_value(value), cls=field.encoder))


def _is_json(value: object) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_json(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return all(map(_is_json, value))
    return value is None or isinstance(value, str | int | float)


def _is_encodable(value: object) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_encodable(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return all(map(_is_encodable, value))
    return value is None or isinstance(value, ENCODABLE)


def _range_value(value: Any, base: Column | None = None) -> dict[str, object]:
    # The same form as in Django's own serializers.
    if value.isempty:
        return {"empty": True}
    lower, upper = (column_value(bound, base) for bound in (value.lower, value.upper))
    bounds = ("[" if value.lower_inc else "(") + ("]" if value.upper_inc else ")")
    return {"lower": lower, "upper": upper, "bounds": bounds}

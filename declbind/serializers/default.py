"""Send the bound fields of a row, each as one JSON value."""

from __future__ import annotations

import base64
import datetime as dt
import decimal
import uuid
from typing import Any, Final

from django.db import models
from django.utils.functional import Promise

from .exact import exact_key, in_utc, keep_exact
from .lists import related_keys

AS_THEY_ARE: Final = frozenset({type(None), str, bool, float, dt.date, uuid.UUID})
#: What Django's JSON encoder has a form for.
ENCODABLE: Final = (
    str, int, float, decimal.Decimal, dt.date, dt.time, dt.timedelta, uuid.UUID, dict, list, tuple, Promise,
)  # fmt: skip


def serialize_fields(instance: Any, binding: Any) -> dict[str, Any]:
    """Return ``{field name: value}`` for the bound fields of a stored row.

    A foreign key is the raw key under the field's name; a many-to-many field a list of keys in their order; a file is
    its name; bytes are base64; a range is an object of its bounds. An integer beyond 2**53 - 1 is a string.
    """
    return {field.name: field_value(instance, field) for field in binding.bound_fields()}


def field_value(instance: Any, field: models.Field[Any, Any]) -> Any:
    """Return one field's value in a form that the JSON encoder takes."""
    if field.many_to_many:
        return [exact_key(key) for key in related_keys(instance, field)]
    value = getattr(instance, field.attname)
    # Most values, of whichever field, are sent as they are; a save pays for each question.
    if type(value) in AS_THEY_ARE or holds_documents(field):
        return value
    if field.is_relation:
        return exact_key(value)
    value = column_value(value)
    # Values of a class that the encoder does not know: as Django's own serializers write them.
    return value if value is None or isinstance(value, ENCODABLE) else field.value_to_string(instance)


def column_value(value: Any) -> Any:
    """Return what a column holds, an item of it or a bound, in a form that the JSON encoder takes."""
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
    if isinstance(value, list | tuple):
        return [column_value(item) for item in value]
    # A range of psycopg, which need not be installed.
    return _range_value(value) if hasattr(value, "lower_inc") and hasattr(value, "isempty") else value


def holds_documents(field: Any) -> bool:
    """Tell whether a column is a JSON document or a list of them."""
    return isinstance(field, models.JSONField) or (hasattr(field, "base_field") and holds_documents(field.base_field))


def _range_value(value: Any) -> dict[str, Any]:
    # The shape that Django's own serializers give a range.
    if value.isempty:
        return {"empty": True}
    return {"lower": column_value(value.lower), "upper": column_value(value.upper), "bounds": value._bounds}

"""Send the bound fields of a row, each as one JSON value."""

from __future__ import annotations

import decimal
from typing import Any

from django.db import models

from .lists import related_keys

#: Fields whose values are sent as Django's serializers write them.
_AS_TEXT = (models.FileField, models.BinaryField)


def serialize_fields(instance: Any, binding: Any) -> dict[str, Any]:
    """Return ``{field name: value}`` for the bound fields of a stored row.

    A foreign key is the raw key under the field's name; a many-to-many field a list of keys in their order; a file is
    its name; bytes are base64.
    """
    return {field.name: field_value(instance, field) for field in binding.bound_fields()}


def field_value(instance: Any, field: models.Field[Any, Any]) -> Any:
    """Return one field's value in a form that the JSON encoder takes."""
    if field.many_to_many:
        return related_keys(instance, field)
    value = getattr(instance, field.attname)
    if isinstance(field, _AS_TEXT):
        return field.value_to_string(instance) if value else None if value is None else ""
    if isinstance(value, decimal.Decimal) and not value.is_finite():
        return None
    return value

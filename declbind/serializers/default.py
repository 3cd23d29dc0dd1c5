"""Send the bound fields of a row, each as one JSON value."""

from __future__ import annotations

import decimal
from typing import Any

from django.db import models


def serialize_fields(instance: Any, binding: Any) -> dict[str, Any]:
    """Return ``{field name: value}`` for the bound fields of a stored row.

    A foreign key is the raw key under the field's name; a many-to-many field a list of keys, one query each, in the
    order of the keys; a file is its name; bytes are base64.
    """
    return {field.name: field_value(instance, field) for field in binding.bound_fields()}


def field_value(instance: Any, field: models.Field[Any, Any]) -> Any:
    """Return one field's value in a form that the JSON encoder takes."""
    if field.many_to_many:
        return related_keys(instance, field)
    value = getattr(instance, field.attname)
    if isinstance(field, models.FileField | models.BinaryField):
        return field.value_to_string(instance) if value else None if value is None else ""
    if isinstance(value, decimal.Decimal) and not value.is_finite():
        return None
    return value


def related_keys(instance: Any, field: Any) -> list[Any]:
    """Return the keys of a many-to-many field's rows, read from the through table, sorted."""
    source = field.m2m_field_name()
    target = field.remote_field.through._meta.get_field(field.m2m_reverse_field_name())
    rows = field.remote_field.through._base_manager.using(instance._state.db).filter(**{source: instance.pk})
    return list(rows.order_by(target.attname).values_list(target.attname, flat=True))

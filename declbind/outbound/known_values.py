"""The check whether a saved instance holds the values that are stored, so that its row need not be read back."""

from __future__ import annotations

import datetime as dt
import decimal
import inspect
import math
import uuid
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from django.db import models
from django.db.models import query_utils
from django.db.models.fields import related_descriptors

from declbind.django_types import Column
from declbind.stored_rows import StoredRow
from declbind.stored_values import is_stock, key_field

from .catalog import facts_of
from .plans import Plan

#: Values of exactly these types are stored unchanged by these fields. All others are read back after the write.
PLAIN_TYPES: Mapping[str, type] = {
    "AutoField": int,
    "BigAutoField": int,
    "SmallAutoField": int,
    "IntegerField": int,
    "BigIntegerField": int,
    "SmallIntegerField": int,
    "PositiveIntegerField": int,
    "PositiveBigIntegerField": int,
    "PositiveSmallIntegerField": int,
    "FloatField": float,
    "BooleanField": bool,
    "CharField": str,
    "TextField": str,
    "SlugField": str,
    "URLField": str,
    "EmailField": str,
    "DateField": dt.date,
    "UUIDField": uuid.UUID,
}


def stored_row(plan: Plan, instance: models.Model, pk: Column, using: str) -> StoredRow | None:
    """Return the instance's values as a row if they are what the database now holds, otherwise ``None``.

    ``pk`` is the field of the primary key of the table that was written.
    """
    return take_values(plan, instance, pk, using) if is_as_stored(plan, instance, pk, using) else None


def take_values(plan: Plan, instance: models.Model, pk: Column, using: str) -> StoredRow:
    """Return the row of an instance for which ``is_as_stored`` is true."""
    values = instance.__dict__
    names = [pk.attname, *(field.attname for field in plan.fields)]
    return StoredRow(plan.model, {name: values[name] for name in names}, using)


def is_as_stored(plan: Plan, instance: models.Model, pk: Column, using: str) -> bool:
    """Return whether the instance's values are what the database now holds, so that its row need not be read back.

    This is true if only Django's code is involved (an ordinary table; methods, fields and descriptors of Django), and
    if the columns store the values unchanged. ``pk`` is the field of the primary key of the table that was written.
    """
    key = (type(instance), pk, using)
    checks: tuple[_Check, ...] | None = plan.statements.get(key)
    if checks is None:
        checks = plan.statements[key] = _checks(plan, type(instance), pk)
    if not checks:
        return False
    facts = facts_of(plan.model, using)
    if not facts.is_ordinary:
        return False
    values, exact = instance.__dict__, facts.exact
    for attname, expected, is_plain in checks:
        value = values.get(attname, _MISSING)
        if value is not None and not (type(value) is expected and (is_plain is None or is_plain(value))):
            return False
        if attname not in exact:
            return False
    return True


_MISSING = object()
#: Called only with a value of the expected type.
_IsPlain = Callable[[Any], bool]
_Check = tuple[str, type | None, _IsPlain | None]


def _checks(plan: Plan, cls: type[models.Model], pk: Column) -> tuple[_Check, ...]:
    """Return the conditions on an instance's values, or an empty tuple if the values can never be relied on."""
    columns = (pk, *plan.fields)
    if not is_saved_by_django(cls) or not all(_is_djangos_own(cls, column) for column in columns):
        return ()
    return tuple(dict.fromkeys((column.attname, *_plain_type(column)) for column in columns))


def is_saved_by_django(cls: type[models.Model]) -> bool:
    """Return whether no code of the project runs between an instance and the statement that saves it."""
    # Other releases of Django may have other methods here.
    methods = ((getattr(cls, name, None), getattr(models.Model, name, None)) for name in _SAVING)
    return all(own is not None and own is djangos for own, djangos in methods) and (
        cls.__getattribute__ is object.__getattribute__
    )


#: The model methods that determine what is stored. Capture wraps the others, or they call these.
_SAVING = ("_do_update", "_do_insert")
#: The descriptor that Django puts on a class for a column that keeps its value unchanged.
_DESCRIPTORS = (
    getattr(query_utils, "DeferredAttribute", None),
    getattr(related_descriptors, "ForeignKeyDeferredAttribute", None),
)


def _is_djangos_own(cls: type[models.Model], column: Column) -> bool:
    """Return whether a column stores the instance's value, and not one that the database computes."""
    return (
        not column.generated
        and type(column).__module__.startswith("django.")
        and is_stock(column)
        and type(inspect.getattr_static(cls, column.attname, None)) in _DESCRIPTORS
    )


def _plain_type(field: Column) -> tuple[type | None, _IsPlain | None]:
    """Return the type whose values a column stores unchanged, and a further condition on a value."""
    target = key_field(field)
    internal = target.get_internal_type()
    if isinstance(target, models.DecimalField):
        return decimal.Decimal, partial(_has_places, target.decimal_places)
    if internal == "DateTimeField":
        return dt.datetime, _is_utc
    if internal == "FloatField":
        return float, math.isfinite
    if internal in ("CharField", "SlugField") and target.max_length is not None:
        return str, partial(_fits, target.max_length)
    return PLAIN_TYPES.get(internal), None


def _has_places(places: int, value: decimal.Decimal) -> bool:
    # The database rounds to the column's number of places, and SQLite keeps fifteen digits.
    digits = value.as_tuple()
    return digits.exponent == -places and len(digits.digits) <= 15


def _is_utc(value: dt.datetime) -> bool:
    return value.tzinfo is dt.UTC


def _fits(length: int, value: str) -> bool:
    # PostgreSQL removes trailing blanks from values that are too long.
    return len(value) <= length

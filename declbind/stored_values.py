"""Values of columns as the database stores, returns and compares them, whatever class of field makes them.

Django's own fields return the values that they are given. A field of a package or of the project may change a value
when it is stored (`get_prep_value`) or read (`from_db_value`), and may compare by lookups of its own.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from importlib import import_module
from types import SimpleNamespace
from typing import Any, Final

from django.apps import apps
from django.db import connections, models
from django.db.models.fields.related import RelatedField

from declbind.core.canonical import canonical_text, is_plain, json_text
from declbind.django_types import Column

#: Words in the names of packages and classes of encrypted fields.
_ENCRYPTING: Final = re.compile(r"encrypt|crypto|fernet|cipher|pgp", re.IGNORECASE)


def key_field(field: Column) -> Column:
    """Return the field whose values a column holds: a foreign key's target, else the field itself."""
    while isinstance(field, RelatedField) and not field.many_to_many:
        field = field.target_field
    return field


def column_of(field: Column) -> Column:
    """Return the field whose column holds a field's value, whatever the language of the thread.

    A field that django-modeltranslation translates has a column for each language. Its own column holds the last
    value written, in the writer's language. The column of the project's default language holds the field's value.
    """
    return _translated_column(field) if _are_translated() else field


@functools.cache
def _are_translated() -> bool:
    return apps.is_installed("modeltranslation")


def _translated_column(field: Column) -> Column:
    language = import_module("modeltranslation.settings").DEFAULT_LANGUAGE
    for other in field.model._meta.concrete_fields:
        original = getattr(other, "translated_field", None)
        if original is not None and original.name == field.name and getattr(other, "language", None) == language:
            return other
    return field


def is_stock(field: Column) -> bool:
    """Return whether a field's values are those of a class of Django's own."""
    return type(key_field(field)).__module__.startswith("django.")


def holds_documents(field: Column) -> bool:
    """Return whether a column is a JSON document or a list of them."""
    return isinstance(field, models.JSONField) or (hasattr(field, "base_field") and holds_documents(field.base_field))


def is_compared_apart(field: Column) -> bool:
    """Return whether comparing a column as the database does takes `comparable` and `group_text`."""
    return not is_stock(field) or holds_documents(key_field(field))


def compares_by_itself(field: Column) -> bool:
    """Return whether a query compares the column by a lookup that is not Django's own."""
    target = key_field(field)
    lookups = (target.get_lookup(name) for name in ("exact", "in"))
    return any(lookup is None or not lookup.__module__.startswith("django.") for lookup in lookups)


def is_encrypted(field: Column) -> bool:
    """Return whether a field's values are clear in Python and encrypted in their column.

    Packages for this name their modules or classes accordingly. A column that stores the same text differently each
    time counts as encrypted too.
    """
    target = key_field(field) if not field.many_to_many else field
    if is_stock(target):
        return False
    names = (f"{cls.__module__}.{cls.__qualname__}" for cls in type(target).__mro__)
    if any(_ENCRYPTING.search(name) for name in names):
        return True
    return not holds_documents(target) and is_stored_differently(target)


def is_stored_differently(field: Column, samples: Iterable[object] = ("a", 1)) -> bool:
    """Return whether a field stores the same value differently each time, so that no query can match it."""
    target = key_field(field)
    if is_stock(target):
        return False
    for value in samples:
        try:
            one, other = target.get_prep_value(value), target.get_prep_value(value)
        except Exception:  # a field of the project may raise anything
            continue
        if isinstance(one, str | bytes) and isinstance(other, str | bytes) and one != other:
            return True
    return False


def write_value(field: Column, value: object) -> object:
    """Return a value as its field writes it in Django's serializers (`value_to_string`).

    Raises:
        TypeError: The text would only be the name of the value's class.
    """
    target = key_field(field)
    cls = type(value)
    is_nameless = cls.__str__ is object.__str__ and cls.__repr__ is object.__repr__
    if is_nameless and type(target).value_to_string is models.Field.value_to_string:
        raise TypeError(f"Expected a value with a JSON form for {field.name!r}, got a {cls.__name__}.")
    row: Any = SimpleNamespace(**{target.attname: value})
    return target.value_to_string(row)


def as_stored(field: Column, value: object, using: str) -> object:
    """Return what a row holds for a value after it was stored and read back."""
    target = key_field(field)
    if value is None or is_stock(target) or holds_documents(target):
        return value
    stored = target.get_prep_value(value)
    convert = getattr(target, "from_db_value", None)
    if convert is None or stored is None:
        return stored
    return convert(stored, target.get_col(target.model._meta.db_table), connections[using])


def comparable(field: Column, value: object) -> object:
    """Return what the database compares of a value. Two values are equal in the database if these are equal."""
    target = key_field(field)
    if value is None or (is_stock(target) and not holds_documents(target)):
        return value
    return json_text(value) if holds_documents(target) else target.get_prep_value(value)


def group_text(field: Column, value: object) -> str | None:
    """Return the text that represents a value in a group's name, or `None` for null."""
    if value is None:
        return None
    target = key_field(field)
    if holds_documents(target):
        return json_text(value)
    if is_plain(value):
        return canonical_text(value)
    text = write_value(target, value)
    try:
        # An amount of money is written as "9.50" and read as a decimal. A subscription's params have the decimal's
        # canonical text.
        parsed = target.to_python(text)
    except Exception:  # a field of the project may raise anything
        return canonical_text(text)
    return canonical_text(parsed if is_plain(parsed) else text)

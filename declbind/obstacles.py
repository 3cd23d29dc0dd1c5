"""Reasons why a field cannot do what a binding record asks of it.

Only classes of fields that are not Django's own are examined. They are given sample values, which are stored, read and
sent without a database. A field that refuses the samples is accepted: what cannot be sent later becomes a resync.
"""

from __future__ import annotations

import datetime as dt
import json
import uuid
import warnings
from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import partial
from typing import Final, TypeVar

from django.db import DEFAULT_DB_ALIAS, models

from declbind.core.sentences import Sentence
from declbind.core.sentences import Sentence as _
from declbind.django_types import Column, related_model
from declbind.serializers import encode_value
from declbind.serializers.default import json_value
from declbind.serializers.exact import exact_key
from declbind.stored_values import (
    as_stored,
    comparable,
    group_text,
    holds_documents,
    is_stock,
    is_stored_differently,
    key_field,
)
from declbind.value_validation import coerce

T = TypeVar("T")

#: Columns of several values, by the internal types of their fields.
_CONTAINERS: Final = ("JSONField", "ArrayField", "HStoreField")
_SAMPLES: Final[tuple[object, ...]] = (
    1, "Aa", "a", True, Decimal("1.50"), 1.5, dt.date(2024, 2, 29), dt.datetime(2024, 2, 29, 12, tzinfo=dt.UTC),
    dt.time(12), dt.timedelta(1), uuid.UUID(int=1), {}, [],
)  # fmt: skip


def key_obstacle(key: Column) -> Sentence | None:
    """Return why clients could not name a row by this primary key, or `None`."""
    target = key_field(key)
    if target.get_internal_type() in _CONTAINERS or hasattr(target, "range_type"):
        return _(
            "its primary key %(field)r is a %(kind)s, and a request names a row by one value.",
            field=key.name,
            kind=type(target).__name__,
        )
    return send_obstacle(key) or _return_obstacle(key)


def send_obstacle(field: Column) -> Sentence | None:
    """Return why the values of a field could not be sent, or `None`."""
    if field.many_to_many:
        field = related_model(field)._meta.pk
    if is_stock(field) or holds_documents(field):
        return None
    faults = [_attempt(partial(_encode, field, value)) for value in _stored_samples(field)]
    failed = [fault for fault in faults if isinstance(fault, Exception)]
    if faults and len(failed) == len(faults):
        return _("values of %(field)r (%(kind)s) have no JSON form: %(error)s", error=str(failed[0]), **_named(field))
    return None


def comparison_obstacle(field: Column, *, in_params: bool = True) -> Sentence | None:
    """Return why a field cannot be compared in memory as a query compares it, or `None`.

    `in_params` says that subscriptions name the values, as with group templates.
    """
    if is_stock(field):
        return None
    target = key_field(field)
    named = _named(field)
    if holds_documents(target):
        return _("%(field)r holds documents of a class of its own (%(kind)s), which cannot be compared.", **named)
    if is_stored_differently(target, _samples(target)):
        return _(
            "%(field)r (%(kind)s) stores the same value differently each time, so that no query finds it by its value.",
            **named,
        )
    if _reads_alike(target):
        return _(
            "%(field)r (%(kind)s) reads different column values as equal, so that queries and events would disagree.",
            **named,
        )
    if any(isinstance(_attempt(partial(comparable, field, value)), Exception) for value in _stored_samples(field)):
        return _("%(field)r (%(kind)s) cannot compare the values that it reads.", **named)
    return _return_obstacle(field) if in_params else None


def _named(field: Column) -> dict[str, str]:
    return {"field": field.name, "kind": _class_name(field)}


def hiding_fields(model: type[models.Model]) -> list[str] | None:
    """Return the fields by which the default manager hides rows that the base manager shows.

    An empty list means that it hides rows in another way, `None` that it hides none.
    """
    manager = model._default_manager
    if type(manager) is models.Manager:
        return None
    try:
        # Deprecated managers warn whenever they are called.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            query = manager.get_queryset().query
            shown = model._base_manager.get_queryset().query
    except Exception:  # a manager of the project may raise anything, for instance without a tenant
        return None
    if not (query.where or query.is_sliced) or str(query.where) == str(shown.where):
        return None
    return sorted({column.name for column in _columns(query.where)})


def _columns(node: object) -> Iterator[Column]:
    """Yield the fields of the columns in a condition."""
    if (target := getattr(node, "target", None)) is not None:
        yield target
    children = getattr(node, "children", None) or getattr(node, "get_source_expressions", list)()
    for child in children:
        if child is not None and not isinstance(child, models.Model):
            yield from _columns(child)


def _return_obstacle(field: Column) -> Sentence | None:
    """Return why a value, in the form in which it is sent, would not be understood as input, or `None`."""
    if is_stock(field):
        return None
    faults = [_return_fault(field, value) for value in _stored_samples(field)]
    if faults and all(faults):
        return _(
            "values of %(field)r (%(kind)s) cannot be named by clients: %(reason)s", reason=faults[0], **_named(field)
        )
    return None


def _return_fault(field: Column, value: object) -> Sentence | str:
    try:
        sent = json.loads(encode_value(exact_key(value, field)))
        back = as_stored(field, coerce(field, sent), DEFAULT_DB_ALIAS)
        if group_text(field, back) != group_text(field, value):
            return _("%(value)s is read as another value.", value=repr(sent))
    except Exception as error:  # a field of the project may raise anything
        return f"{error}"
    return ""


def _reads_alike(field: Column) -> bool:
    convert = getattr(field, "from_db_value", None)
    if convert is None:
        return False
    texts = "Aa", "aa"
    stored = [_attempt(partial(field.get_prep_value, text)) for text in texts]
    if stored[0] == stored[1] or not all(isinstance(item, str) for item in stored):
        return False
    read = [_attempt(partial(convert, text, None, None)) for text in stored]
    return not any(isinstance(item, Exception) for item in read) and bool(read[0] == read[1])


def _stored_samples(field: Column) -> list[object]:
    """Return sample values as rows hold them after they were stored and read."""
    target = key_field(field)
    found = []
    for value in _samples(target):
        stored = _attempt(partial(as_stored, target, value, DEFAULT_DB_ALIAS))
        if stored is not None and not isinstance(stored, Exception):
            found.append(stored)
    return found


def _samples(field: Column) -> list[object]:
    """Return values that a field of the project understands; none if it understands none of ours."""
    own = [value for value, _ in _attempt_list(lambda: list(field.flatchoices or ()))][:3]
    if field.has_default() and not callable(field.default):
        own.append(field.default)
    internal = field.get_internal_type()
    if "Integer" in internal or "AutoField" in internal:
        generic: list[object] = [1, 2]
    elif internal in ("CharField", "TextField", "SlugField"):
        generic = ["Aa", "a"]
    else:
        generic = list(_SAMPLES)
    found = []
    for value in (*own, *generic):
        parsed = _attempt(partial(field.to_python, value))
        if parsed is not None and not isinstance(parsed, Exception):
            found.append(parsed)
    return found


def _attempt(call: Callable[[], T]) -> T | Exception:
    """Return the result of a call, or the exception that it raises."""
    try:
        return call()
    except Exception as error:  # code of the project may raise anything
        return error


def _attempt_list(call: Callable[[], list[T]]) -> list[T]:
    found = _attempt(call)
    return [] if isinstance(found, Exception) else found


def _encode(field: Column, value: object) -> str:
    return encode_value(json_value(field, value))


def _class_name(field: Column) -> str:
    return type(key_field(field)).__name__

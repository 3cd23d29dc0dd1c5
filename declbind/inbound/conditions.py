"""The ``if`` of a request, which makes a write depend on the present values of the row."""

from __future__ import annotations

import json
from collections.abc import Mapping

from django.db import models

from declbind.bindings import Binding
from declbind.core.errors import ClientError
from declbind.django_types import Column
from declbind.serializers import encode_value
from declbind.serializers.default import field_value
from declbind.serializers.exact import keep_exact
from declbind.stored_rows import value_of
from declbind.stored_values import holds_documents


def check_condition(bound: Binding, action: str, key: object, condition: Mapping[str, object] | None) -> None:
    """Compare ``{field: expected}`` with the row as a frame would show it, and lock the row until the transaction ends.

    The result discloses values of the row, so the user needs the permission to view it.

    Raises:
        ClientError: ``conflict`` with the fields that differ, ``invalid`` for fields that are not bound, ``denied``, or
            ``not_found``.
    """
    if not condition:
        return
    if action == "create":
        raise ClientError("invalid", "'if' compares a stored row, and there is none before a create.")
    fields = {field.name: field for field in bound.bound_fields()}
    unknown = {name: ["This field is not sent here."] for name in condition if name not in fields}
    if unknown:
        raise ClientError("invalid", "'if' accepts only fields that this stream sends.", unknown)
    row = bound.get_object(key)
    if not _may_view(bound, key, row):
        raise ClientError("denied", "'if' requires the permission to view the row.")
    differing = {
        name: ["The row has another value."]
        for name, expected in condition.items()
        if not is_same_json(json.loads(encode_value(field_value(row, fields[name]))), _as_sent(fields[name], expected))
    }
    if differing:
        raise ClientError("conflict", f"Changed in the meantime: {', '.join(sorted(differing))}.", differing)


def _may_view(bound: Binding, key: object, row: models.Model) -> bool:
    """Return whether the user may view a row, through one of its groups or by a permission on the row itself."""
    if bound.overrides("has_view_permission"):
        return any(bound.has_view_permission(bound.user, params) for params in _params_of(bound, row))
    if bound.has_view_permission(bound.user, {}):
        return True
    return not bound.overrides("has_permission") and bound.has_permission(bound.user, "view", key)


def _params_of(bound: Binding, row: models.Model) -> list[dict[str, object]]:
    """Return the params of the subscriptions that include a row."""
    if bound.overrides("group_names", "subscription_group"):
        return [{}]
    return [
        {name: value_of(row, attname) for name, attname in placeholders}
        for _, placeholders in bound.resolved().templates
    ]


def _as_sent(field: Column, expected: object) -> object:
    """Return an expected value with large integers in the form that frames use. Clients may send either form."""
    if holds_documents(field):
        return expected
    if isinstance(expected, dict):
        return {name: keep_exact(item) for name, item in expected.items()}
    return keep_exact(expected)


def is_same_json(one: object, other: object) -> bool:
    """Compare two values as JSON does: ``true`` is not 1, while 1 and 1.0 are the same number."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(is_same_json(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(is_same_json, one, other))
    return isinstance(one, bool) is isinstance(other, bool) and bool(one == other)

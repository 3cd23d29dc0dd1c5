"""The relations that a binding names under ``also``, and how a related row leads back to the bound rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import FieldDoesNotExist
from django.db.models import Model
from django.db.models.fields.reverse_related import ForeignObjectRel

from declbind.core.sentences import Sentence
from declbind.core.sentences import Sentence as _

#: The maximum number of relations in one path.
MAX_STEPS = 4


@dataclass(frozen=True)
class Hop:
    """One model on a path. Its rows lead to the bound rows whose ``lookup`` is among the values of ``column``."""

    model: type[Model]
    lookup: str
    column: str


def find_hops(model: type[Model], path: str) -> list[Hop]:
    """Return the hops of a path such as ``author__team``, with the through models of many-to-many fields.

    Raises:
        LookupError: A step is not a relation; the text names it.
    """
    hops: list[Hop] = []
    at = model
    before = ""
    names = path.split("__")
    if len(names) > MAX_STEPS:
        raise LookupError(
            _(
                "expected at most %(limit)s relations in a row, got %(count)s in %(path)r",
                limit=MAX_STEPS,
                count=len(names),
                path=path,
            )
        )
    for name in names:
        relation = _find_relation(at, name, path)
        lookup = f"{before}__{name}" if before else name
        target = relation.related_model
        is_forward = not isinstance(relation, ForeignObjectRel)
        if relation.many_to_many:
            forward = relation if is_forward else relation.field
            through = forward.remote_field.through
            end = forward.m2m_field_name() if is_forward else forward.m2m_reverse_field_name()
            hops.append(Hop(through, before or "pk", through._meta.get_field(end).attname))
            hops.append(Hop(target, lookup, "pk"))
        elif is_forward:
            hops.append(Hop(target, lookup, relation.target_field.attname))
        else:
            # A foreign key to another column than the primary key is matched by that column.
            key = relation.field.target_field
            found_by = "pk" if key.primary_key else key.name
            hops.append(Hop(target, f"{before}__{found_by}" if before else found_by, relation.field.attname))
        at, before = target, lookup
    return hops


def find_relations(model: type[Model]) -> dict[str, Any]:
    """Return the relations of a model that a path may follow, in both directions, by their names in a path."""
    return {_name_of(field): field for field in model._meta.get_fields() if _is_followed(field)}


def _find_relation(model: type[Model], name: str, path: str) -> Any:
    relations = find_relations(model)
    found = relations.get(name)
    if found is not None:
        return found
    values = {"model": model._meta.label, "name": name, "known": ", ".join(sorted(relations)) or _("none")}
    try:
        values["kind"] = type(model._meta.get_field(name)).__name__
    except FieldDoesNotExist:
        raise LookupError(_no_relation(path, values)) from None
    if name != path:
        text = _(
            "%(name)r in %(path)r of %(model)s is a %(kind)s, which cannot be followed. Its relations are %(known)s",
            path=path,
            **values,
        )
    else:
        text = _("%(name)r of %(model)s is a %(kind)s, which cannot be followed. Its relations are %(known)s", **values)
    raise LookupError(text)


def _no_relation(path: str, values: Mapping[str, object]) -> Sentence:
    if values["name"] != path:
        return _("%(model)s has no relation %(name)r in %(path)r. Its relations are %(known)s", path=path, **values)
    return _("%(model)s has no relation %(name)r. Its relations are %(known)s", **values)


def _is_followed(field: Any) -> bool:
    # A generic relation has no column that a query could follow in both directions.
    return bool(
        field.is_relation and isinstance(field.related_model, type) and not field.hidden and not _is_generic(field)
    )


def _is_generic(field: Any) -> bool:
    # ``concrete`` cannot be used: a many-to-many field is concrete up to Django 6.0, and no longer in 6.1.
    return hasattr(field, "object_id_field_name") or not (field.remote_field or isinstance(field, ForeignObjectRel))


def _name_of(field: Any) -> str:
    return str(field.name)

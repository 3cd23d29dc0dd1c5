"""Follow the relations that a binding names under ``also``, and tell by which rows of others its own are found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.core.exceptions import FieldDoesNotExist
from django.db.models import ForeignObjectRel, Model

#: Relations that one path may have.
MAX_STEPS = 4


@dataclass(frozen=True)
class Hop:
    """Rows of ``model`` on the way: those bound belong to them whose ``lookup`` is among the values of ``column``."""

    model: type[Model]
    lookup: str
    column: str


def find_hops(model: type[Model], path: str) -> list[Hop]:
    """Return the hops of a path of relations such as ``author__team``, every one on the way and lists' through rows.

    Raises ``LookupError`` with a sentence that says which step is none.
    """
    hops: list[Hop] = []
    at: Any = model
    before = ""
    names = path.split("__")
    if len(names) > MAX_STEPS:
        raise LookupError(f"expected at most {MAX_STEPS} relations in a row, got {len(names)} in {path!r}")
    for name in names:
        relation = _find_relation(at, name, path)
        lookup = f"{before}__{name}" if before else name
        target = relation.related_model
        if relation.many_to_many:
            is_forward = not isinstance(relation, ForeignObjectRel)
            forward = relation if is_forward else relation.field
            through = forward.remote_field.through
            end = forward.m2m_field_name() if is_forward else forward.m2m_reverse_field_name()
            hops.append(Hop(through, before or "pk", through._meta.get_field(end).attname))
            hops.append(Hop(target, lookup, "pk"))
        elif not isinstance(relation, ForeignObjectRel):
            hops.append(Hop(target, lookup, relation.target_field.attname))
        else:
            # A foreign key to another column than the primary key is found by that one.
            key = relation.field.target_field
            found_by = "pk" if key.primary_key else key.name
            hops.append(Hop(target, f"{before}__{found_by}" if before else found_by, relation.field.attname))
        at, before = target, lookup
    return hops


def find_relations(model: Any) -> dict[str, Any]:
    """Return the relations of a model that a path may follow, both ways, by the names that they have in a path."""
    return {_name_of(field): field for field in model._meta.get_fields() if _is_followed(field)}


def _find_relation(model: Any, name: str, path: str) -> Any:
    relations = find_relations(model)
    found = relations.get(name)
    if found is not None:
        return found
    known = ", ".join(sorted(relations)) or "none"
    where = f" in {path!r}" if name != path else ""
    try:
        kind = type(model._meta.get_field(name)).__name__
    except FieldDoesNotExist:
        raise LookupError(f"{model._meta.label} has no relation {name!r}{where}. Its relations are {known}") from None
    raise LookupError(
        f"{name!r}{where} of {model._meta.label} is a {kind}, which cannot be followed. Its relations are {known}"
    )


def _is_followed(field: Any) -> bool:
    # A generic relation is no column that a query could follow in both directions.
    return bool(
        field.is_relation and isinstance(field.related_model, type) and not field.hidden and not _is_generic(field)
    )


def _is_generic(field: Any) -> bool:
    # Not by ``concrete``, which says nothing of many-to-many fields: true before Django 6.1, and false since.
    return hasattr(field, "object_id_field_name") or (
        isinstance(field, ForeignObjectRel) and not hasattr(field, "field")
    )


def _name_of(field: Any) -> str:
    return str(field.name)

"""The columns whose values a binding record exposes, and the places of the record that expose them.

A value can reach clients without being sent. A client that may subscribe to ``code-{code}`` can guess the code, and the
presence of a row discloses the value that ``where`` compares.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from django.db.models import Model

from declbind.core.spec import BindingSpec
from declbind.django_types import Column
from declbind.fields import bound_fields, concrete_field, is_sensitive_field
from declbind.rights_models import is_rights_column, withheld_reason


@dataclass(frozen=True)
class Exposed:
    """One column at one place; ``key`` is the record's key, ``path`` the place as a JSON path."""

    key: str
    path: str
    field: Column

    @property
    def name(self) -> str:
        """The name of the field."""
        return self.field.name

    @property
    def is_sensitive(self) -> bool:
        """Whether its values look like secrets."""
        return is_sensitive_field(self.field)

    @property
    def gives_rights(self) -> bool:
        """Whether the column gives permissions."""
        return is_rights_column(self.field)

    @property
    def withheld(self) -> str:
        """The kind of content that no operator may expose, or ``""``."""
        return str(withheld_reason(self.field))


def exposed_fields(model: type[Model], spec: BindingSpec) -> list[Exposed]:
    """Return every column that a record exposes, once for each place."""
    return [found for place in PLACES for found in place(model, spec)]


def _key(model: type[Model], spec: BindingSpec) -> Iterator[Exposed]:
    # The primary key is in every frame and every reply.
    yield Exposed("model", "$.model", model._meta.pk)


def _bound(model: type[Model], spec: BindingSpec) -> Iterator[Exposed]:
    key = "fields" if spec.exclude is None else "exclude"
    for field in bound_fields(model, spec):
        named = key == "fields" and spec.fields is not None and field.name in spec.fields
        at = f"[{spec.fields.index(field.name)}]" if named and spec.fields is not None else ""
        yield Exposed("fields", f"$.{key}{at}", field)


def _groups(model: type[Model], spec: BindingSpec) -> Iterator[Exposed]:
    for index, template in enumerate(spec.group_templates if spec.groups else ()):
        yield from _columns(model, "groups", ((f"$.groups[{index}]", name) for name in template.placeholders))


def _where(model: type[Model], spec: BindingSpec) -> Iterator[Exposed]:
    yield from _columns(model, "where", ((f"$.where.{name}", name.partition("__")[0]) for name in spec.where))


def _scope(model: type[Model], spec: BindingSpec) -> Iterator[Exposed]:
    yield from _columns(model, "scope", ((f"$.scope.{name}", name) for name in spec.scope))


def _columns(model: type[Model], key: str, named: Iterable[tuple[str, str]]) -> Iterator[Exposed]:
    for path, name in named:
        try:
            yield Exposed(key, path, concrete_field(model, name))
        except LookupError:
            continue  # The validation of the record reports it.


#: The places, one function each. Every key of the record by which clients can learn values belongs here.
PLACES: tuple[Callable[[type[Model], BindingSpec], Iterator[Exposed]], ...] = (_key, _bound, _groups, _where, _scope)

"""The meaning of a binding record, resolved against its model: what it sends, accepts and allows."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from django.db.models import Model

from declbind import record_validation
from declbind.bindings import DJANGO_ACTIONS
from declbind.core.spec import ACTIONS, BindingSpec
from declbind.fields import bound_fields, concrete_field, find_model, hold_back, writable_fields


@dataclass(frozen=True)
class Meaning:
    """A record resolved against its model. If it has ``problems``, it is not in force."""

    spec: BindingSpec
    model: type[Model]
    problems: bool

    @property
    def label(self) -> str:
        return str(self.model._meta.label)

    @property
    def sends(self) -> tuple[str, ...]:
        return tuple(field.name for field in bound_fields(self.model, self.spec))

    @property
    def is_open(self) -> bool:
        """Whether fields that are added to the model later are sent too."""
        return self.spec.grows

    @property
    def accepts(self) -> tuple[str, ...]:
        return tuple(field.name for field in writable_fields(self.model, self.spec)) if self.spec.inbound else ()

    @property
    def accepts_later(self) -> bool:
        """Whether clients may write fields that are added to the model later."""
        return self.spec.inbound and self.is_open and self.spec.writable is None

    @property
    def known(self) -> set[str]:
        """The columns whose values a client that receives a row can read."""
        return {getattr(field, "attname", field.name) for field in bound_fields(self.model, self.spec)} | {
            self.model._meta.pk.attname
        }

    def rule(self, action: str) -> str | bool:
        """Return the rule for an action.

        It is ``False`` if the direction is closed, and Django's codename if the record has no rule.
        """
        is_closed = not (self.spec.outbound if action == "view" else self.spec.inbound)
        return False if is_closed else self.written_rule(action)

    def written_rule(self, action: str) -> str | bool:
        """Return the rule for an action, whatever the direction.

        The view rule also applies to conditions of writes.
        """
        rule: str | bool | None = self.spec.permissions.get(action)
        options = self.model._meta
        return f"{options.app_label}.{DJANGO_ACTIONS[action]}_{options.model_name}" if rule is None else rule

    @property
    def open_actions(self) -> frozenset[str]:
        """The actions that the record allows."""
        return frozenset(action for action in ACTIONS if self.rule(action) is not False)

    @property
    def reading(self) -> frozenset[str]:
        """The actions by which clients learn values. Clients that may write can ask for values with ``if``."""
        return self.open_actions & ({"view"} if self.spec.outbound else {"update", "delete"})

    @property
    def writing(self) -> frozenset[str]:
        """The actions by which clients set values."""
        return self.open_actions & {"create", "update"}

    def columns(self, names: Iterable[str]) -> frozenset[str]:
        """Return the columns of a template's placeholders. A column may have two names."""
        return frozenset(self._column(name) for name in names)

    def _column(self, name: str) -> str:
        try:
            return concrete_field(self.model, name).attname
        except LookupError:
            return name


def read_meaning(document: Mapping[str, object] | None, held: Collection[str]) -> Meaning | None:
    """Return the meaning of a record, or ``None`` if it cannot be read or its model does not exist. Makes no query."""
    spec, problems = record_validation.validate_document(document)
    model = find_model(spec.model) if spec is not None else None
    if spec is None or model is None:
        return None
    return Meaning(hold_back(model, spec, held) if not spec.grow else spec, model, bool(problems))

"""A summary of a binding from any source, in an operator's words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from django.db.models import Model

from declbind import record_validation, record_warnings
from declbind.bindings import DJANGO_ACTIONS, Binding
from declbind.console.record_words import audience_in_words
from declbind.core.errors import Problem
from declbind.core.registry import Entry
from declbind.core.spec import ACTIONS, AUDIENCES, BindingSpec
from declbind.core.wording import AUDIENCE_WORDS
from declbind.fields import bound_fields, find_model, held_fields, is_editable, is_sensitive_field, model_fields
from declbind.models import BindingRecord
from declbind.relations import find_relations

#: The number of relations of a model, and of related models, that the form offers.
MAX_RELATIONS = 80
DIRECTIONS = {"both": "both ways", "outbound": "only to clients", "inbound": "only from clients"}
EVERYONE, NOBODY, BY_CODE = "everyone", "nobody", "code decides"


@dataclass(frozen=True)
class Sent:
    """The sent fields: ``text`` for the list, the names, and whether fields that are added later are sent too."""

    text: str
    names: tuple[str, ...]
    is_open: bool


@dataclass(frozen=True)
class Summary:
    """One binding of any source; ``where`` is its place for people, ``spec`` is ``None`` if it breaks the schema."""

    stream: str
    source: str
    where: str
    spec: BindingSpec | None
    problems: tuple[Problem, ...] = ()
    enabled: bool = True
    binding: type[Binding] | None = None

    @property
    def state(self) -> str:
        """Return "invalid", "disabled" or "active"."""
        if self.problems:
            return "invalid"
        return "active" if self.enabled else "disabled"

    @cached_property
    def model(self) -> type[Model] | None:
        """The bound model, or ``None``."""
        return find_model(self.spec.model) if self.spec else None

    @property
    def model_text(self) -> str:
        """The display name of the model, or the model as the record writes it."""
        if self.model is not None:
            return str(self.model._meta.label)
        return self.spec.model if self.spec else ""

    @property
    def app_label(self) -> str:
        """The app of the model, in lower case."""
        return self.model_text.partition(".")[0].lower()

    @property
    def direction(self) -> str:
        """The direction in words."""
        return DIRECTIONS.get(self.spec.direction, self.spec.direction) if self.spec else ""

    @property
    def captures(self) -> str:
        """The writes that it captures; "" if it sends nothing."""
        if self.spec is None or not self.spec.outbound:
            return ""
        raw = ", raw SQL and other programs, by triggers" if self.spec.capture == "triggers" else ""
        return f"what Django writes{raw}"

    @cached_property
    def sent(self) -> Sent:
        """The number of sent fields, in words."""
        if self.spec is None or self.model is None or self.problems:
            return Sent("", (), False)
        names = tuple(field.name for field in bound_fields(self.model, self.spec))
        names += tuple(self.binding.send_members) if self.binding else ()
        count = f"{len(names)} field{'' if len(names) == 1 else 's'}"
        if self.held:
            count += f", {len(self.held)} new not sent"
            return Sent(count, names, True)
        if self.spec.all_fields:
            return Sent(f"all fields ({len(names)})", names, True)
        if self.spec.exclude is not None:
            return Sent(f"all but {len(self.spec.exclude)} ({len(names)})", names, True)
        return Sent(count if names else "only the key", names, False)

    @cached_property
    def held(self) -> tuple[str, ...]:
        """The fields that were added to the model later and have not been accepted yet."""
        if self.spec is None or self.model is None or self.problems:
            return ()
        return tuple(field.name for field in held_fields(self.model, self.spec))

    @cached_property
    def who(self) -> list[tuple[str, str]]:
        """Return who may do what. Actions with the same rule are joined, as ("create, update", "nobody")."""
        if self.spec is None:
            return []
        answers: dict[str, list[str]] = {}
        for action in ACTIONS:
            if self.spec.inbound if action != "view" else self.spec.outbound:
                answers.setdefault(self._who(self.spec, action), []).append(action)
        return [(", ".join(actions), words) for words, actions in answers.items()]

    def _who(self, spec: BindingSpec, action: str) -> str:
        method = "has_view_permission" if action == "view" else "has_permission"
        if self.binding is not None and self.binding.overrides(method):
            return BY_CODE
        rule: Any = spec.permissions.get(action)
        if isinstance(rule, bool):
            words = EVERYONE if rule else NOBODY
        elif rule in AUDIENCES:
            words = AUDIENCE_WORDS[rule]
        else:
            words = audience_in_words(rule or self._own_codename(spec, action))
        return f"{words}, own rows only" if spec.scope and rule is not False else words

    def _own_codename(self, spec: BindingSpec, action: str) -> str:
        label = self.model._meta.label_lower if self.model is not None else spec.model.lower()
        app_label, _, name = label.partition(".")
        if self.model is not None:
            app_label = self.model._meta.app_label
        return f"{app_label}.{DJANGO_ACTIONS[action]}_{name}"

    @property
    def is_open_to_everyone(self) -> bool:
        """Whether users may do anything without logging in."""
        return any(words.startswith(EVERYONE) for _, words in self.who)

    @property
    def groups(self) -> tuple[str, ...]:
        """The group templates, or the default one."""
        if self.binding is not None and self.binding.overrides("group_names"):
            return (BY_CODE,)
        return tuple(template.text for template in self.spec.group_templates) if self.spec else ()

    @property
    def warnings(self) -> list[Problem]:
        """Settings that are allowed but probably not intended."""
        if self.spec is None or self.problems:
            return []
        return [*record_warnings.find_waiting_fields(self.spec), *record_warnings.find_warnings(self.spec)]

    @property
    def document(self) -> dict[str, object]:
        """The record in its canonical form."""
        return self.spec.to_dict() if self.spec else {}

    def matches(self, text: str) -> bool:
        """Return whether a search for ``text`` finds this binding."""
        known = (
            f"{self.stream} {self.model_text} {self.where} {' '.join(self.sent.names)} {' '.join(self.groups)}".lower()
        )
        return all(word in known for word in text.lower().split())


def summarise_record(record: BindingRecord, reserved: Mapping[str, str]) -> Summary:
    """Validate a row as it is now; ``reserved`` are the streams of files and classes. Makes no query."""
    spec, problems = record_validation.validate_document(record.definition())
    if spec is not None and isinstance(record.known, list):
        spec = replace(spec, known=frozenset(record.known))
    if record.stream in reserved:
        problems = record.problems()
    return Summary(
        stream=record.stream,
        source="database",
        where="database",
        spec=spec,
        problems=tuple(problems),
        enabled=record.enabled,
    )


def summarise_entry(entry: Entry[type[Binding]]) -> Summary:
    """Summarise a registry entry of a file or a class."""
    spec = entry.binding.spec() if entry.binding is not None else None
    return Summary(
        stream=entry.stream,
        source=entry.source,
        where=entry.where,
        spec=spec,
        problems=tuple(entry.problems),
        enabled=spec.enabled if spec else True,
        binding=entry.binding if entry.source == "code" else None,
    )


@dataclass(frozen=True)
class FieldNote:
    """One field of a model in the panel of the form."""

    name: str
    attname: str
    kind: str
    marks: tuple[str, ...]
    is_sensitive: bool
    is_column: bool


def describe_fields(label: str) -> list[FieldNote]:
    """Return the fields that a binding of the model can name; none for a model that is not installed."""
    model = find_model(label)
    notes = []
    for field in model_fields(model) if model is not None else []:
        remote = getattr(field.remote_field, "model", None)
        sensitive = is_sensitive_field(field)
        marks = [
            *(["may be null"] if field.null and not field.many_to_many else []),
            *(["not editable"] if not is_editable(field) else []),
            *(["sensitive"] if sensitive else []),
        ]
        kind = type(field).__name__.removesuffix("Field")
        target = f" \N{RIGHTWARDS ARROW} {remote._meta.label}" if remote is not None else ""
        notes.append(
            FieldNote(
                name=field.name,
                attname=getattr(field, "attname", field.name),
                kind=f"{kind}{target}",
                marks=tuple(marks),
                is_sensitive=sensitive,
                is_column=not field.many_to_many,
            )
        )
    return notes


@dataclass(frozen=True)
class RelationNote:
    """One relation of a model, or of a related one, as the form offers it; ``begin`` is the path before it."""

    path: str
    begin: str
    kind: str


def describe_relations(label: str) -> list[RelationNote]:
    """Return the relations that a binding of the model can name under ``also``, and those one step further."""
    model = find_model(label)
    if model is None:
        return []
    steps = find_relations(model)
    notes = [_relation_note(name, "", relation) for name, relation in steps.items()]
    for name, relation in steps.items():
        # The reverse relation leads to rows of the same model. It is seldom intended, and can be typed.
        notes += [
            _relation_note(f"{name}__{further}", name, step)
            for further, step in find_relations(relation.related_model).items()
            if step.remote_field is not relation
        ]
    return notes[:MAX_RELATIONS]


def _relation_note(path: str, begin: str, relation: Any) -> RelationNote:
    # A reverse foreign key or a list may lead to many rows.
    many = "several " if relation.one_to_many or relation.many_to_many else ""
    return RelationNote(path, begin, f"\N{RIGHTWARDS ARROW} {many}{relation.related_model._meta.label}")

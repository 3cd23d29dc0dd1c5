"""The validation of a binding record against Django: its names exist and work, and it exposes no secret by accident.

:func:`declbind.core.schema.problems` validates the form of the record. :func:`validate_document` calls both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from django.apps import apps
from django.db.models import Model

from declbind import obstacles
from declbind.codenames import declared_codenames, stored_codenames
from declbind.conf import serializer_names, settings
from declbind.core import schema
from declbind.core.errors import Problem
from declbind.core.sentences import Sentence
from declbind.core.sentences import Sentence as _
from declbind.core.spec import AUDIENCES, BindingSpec
from declbind.core.wording import did_you_mean, in_binding, suggest
from declbind.field_validation import find_field_problems
from declbind.fields import find_model


def _no_streams() -> Mapping[str, str]:
    return {}


#: Returns the places of the streams that files and classes define. A database record must not use them. The registry
#: sets this function, because this module may not import the registry.
reserved_streams: Callable[[], Mapping[str, str]] = _no_streams


def validate_document(
    document: object, *, python: bool = False, database: bool = False
) -> tuple[BindingSpec | None, list[Problem]]:
    """Validate a record by the schema and then against Django. Never raises, whatever ``document`` is.

    Returns the spec, ``None`` if it breaks the schema, and every problem. :func:`validate_spec` explains the keywords.
    """
    problems = schema.problems(document)
    if problems or not isinstance(document, Mapping):
        return None, problems
    spec = BindingSpec.from_dict(document)
    return spec, validate_spec(spec, python=python, database=database)


def validate_spec(spec: BindingSpec, *, python: bool = False, database: bool = False) -> list[Problem]:
    """Validate a spec against the installed models and settings. Return the problems.

    ``python`` is for binding classes, which may name a sensitive field without ``sensitive``. ``database`` also accepts
    codenames that only a row of the Permission table declares. Without it, no query is made.
    """
    found = [*_codename_problems(spec, database), *_serializer_problems(spec)]
    model = find_model(spec.model)
    if model is None:
        found.insert(0, _unknown_model(spec))
    elif obstacle := _model_obstacle(model):
        found.insert(0, Problem("$.model", obstacle))
    else:
        found = [*find_field_problems(spec, model, python), *_capture_problems(spec), *found]
    return [replace(problem, sentence=in_binding(spec.stream, problem.sentence)) for problem in found]


def _unknown_model(spec: BindingSpec) -> Problem:
    labels = [model._meta.label for model in apps.get_models()]
    name = spec.model.rpartition(".")[2].lower()
    namesakes = [label for label in labels if label.rpartition(".")[2].lower() == name]
    near = did_you_mean(namesakes[0]) if len(namesakes) == 1 else suggest(spec.model, labels)
    fix = near or _(" Is its app in INSTALLED_APPS? An abstract model cannot be bound.")
    return Problem("$.model", _("expected an installed model, got %(model)r.", model=spec.model) + fix)


def _model_obstacle(model: type[Model]) -> Sentence | None:
    """Return why this model cannot be bound, or ``None``."""
    options = model._meta
    label = options.label
    if options.swapped:
        return _(
            "expected a model in use, got %(model)s, which is swapped out. Bind %(other)r.",
            model=label,
            other=options.swapped,
        )
    if options.app_label == "declbind":
        # Each event would be a write of a bound model, and cause another event.
        return _("expected a model of the project, got %(model)s, which belongs to declbind.", model=label)
    if len(getattr(options, "pk_fields", ())) > 1:
        return _("expected a model with one primary key column, got %(model)s with a composite one.", model=label)
    if reason := obstacles.key_obstacle(options.pk):
        return _("expected a model whose rows clients can name, got %(model)s: %(reason)s", model=label, reason=reason)
    return None


def _capture_problems(spec: BindingSpec) -> Iterator[Problem]:
    if spec.capture == "triggers" and settings.TENANT is not None:
        yield Problem(
            "$.capture",
            _(
                "expected 'orm' on a site with tenants, got 'triggers'. A trigger does not record the tenant of a "
                "write. Announce what raw SQL writes with declbind.touch(queryset)."
            ),
        )


def _codename_problems(spec: BindingSpec, database: bool) -> Iterator[Problem]:
    asked = {
        action: rule for action, rule in spec.permissions.items() if isinstance(rule, str) and rule not in AUDIENCES
    }
    if not asked:
        return
    known = declared_codenames()
    unknown = {action: rule for action, rule in asked.items() if rule not in known}
    if unknown and database:
        known |= stored_codenames()
        unknown = {action: rule for action, rule in asked.items() if rule not in known}
    # One wrong codename for all four actions is one problem, not four.
    if len(unknown) == 4 and len(set(unknown.values())) == 1:
        unknown = {"": next(iter(unknown.values()))}
    for action, rule in unknown.items():
        app_label = rule.partition(".")[0]
        near = suggest(rule, sorted(name for name in known if name.startswith(f"{app_label}."))) or suggest(
            rule, sorted(known)
        )
        fix = near or _(
            " Declare it in the Meta.permissions of a model, or use true, false, 'authenticated' or 'staff'."
        )
        yield Problem(
            f"$.permissions.{action}" if action else "$.permissions",
            _("permission %(codename)r does not exist.", codename=rule) + fix,
        )


def _serializer_problems(spec: BindingSpec) -> Iterator[Problem]:
    names = serializer_names()
    if spec.serializer not in names:
        expected = _(
            "expected a serializer of DECLBIND['SERIALIZERS'] (%(names)s), got %(serializer)r.",
            names=", ".join(names),
            serializer=spec.serializer,
        )
        near = suggest(spec.serializer, names) or _(" Add it to the setting.")
        yield Problem("$.serializer", expected + near)

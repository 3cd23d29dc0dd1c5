"""The validation of a binding record against Django: its names exist and work, and it exposes no secret by accident.

:func:`declbind.core.schema.problems` validates the form of the record. :func:`judge_document` calls both.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from django.apps import apps
from django.contrib.auth import get_user_model
from django.db.models import Field, Model

from declbind import obstacles
from declbind.codenames import declared_codenames, stored_codenames
from declbind.conf import serializer_names, settings
from declbind.core import schema
from declbind.core.errors import Problem
from declbind.core.spec import AUDIENCES, BindingSpec
from declbind.core.wording import suggest
from declbind.exposure import exposed_fields
from declbind.fields import (
    bound_fields,
    concrete_field,
    find_model,
    held_fields,
    is_editable,
    is_sensitive,
    is_sensitive_field,
    model_fields,
    writable_fields,
)
from declbind.relations import find_hops
from declbind.stored_values import comparable, is_encrypted
from declbind.validation import accepted_values

__all__ = [
    "bound_fields",
    "concrete_field",
    "find_model",
    "is_editable",
    "is_sensitive",
    "judge",
    "judge_document",
    "reserved_streams",
    "waiting",
    "warnings",
    "writable_fields",
]


def _no_streams() -> Mapping[str, str]:
    return {}


#: Returns the places of the streams that files and classes define. A database record must not use them. The registry
#: sets this function, because this module may not import the registry.
reserved_streams: Callable[[], Mapping[str, str]] = _no_streams


def judge_document(
    document: object, *, python: bool = False, database: bool = False
) -> tuple[BindingSpec | None, list[Problem]]:
    """Validate a record by the schema and then against Django. Never raises, whatever ``document`` is.

    Returns the spec, ``None`` if it breaks the schema, and every problem. The keywords are those of :func:`judge`.
    """
    problems = schema.problems(document)
    if problems or not isinstance(document, Mapping):
        return None, problems
    spec = BindingSpec.from_dict(document)
    return spec, judge(spec, python=python, database=database)


def judge(spec: BindingSpec, *, python: bool = False, database: bool = False) -> list[Problem]:
    """Validate a spec against the installed models and settings. Return the problems.

    ``python`` is for binding classes, which may name a sensitive field without ``sensitive``. ``database`` also accepts
    codenames that only a row of the Permission table declares. Without it, no query is made.
    """
    found = [*_codename_problems(spec, database), *_serializer_problems(spec)]
    model = find_model(spec.model)
    if model is None:
        found.insert(0, _unknown_model(spec))
        return found
    obstacle = _model_obstacle(model)
    if obstacle:
        return [Problem("$.model", f"Binding {spec.stream!r}: {obstacle}"), *found]
    return [
        *_bound_problems(spec, model, python),
        *_sensitive_problems(spec, model, python),
        *_writable_problems(spec, model),
        *_template_problems(spec, model),
        *_where_problems(spec, model),
        *_scope_problems(spec, model),
        *_relate_problems(spec, model),
        *_also_problems(spec, model),
        *_capture_problems(spec),
        *found,
    ]


def warnings(spec: BindingSpec) -> list[Problem]:
    """Return settings of a valid spec that are allowed but probably not intended.

    A group or a condition over a field that is not sent discloses it, because the arrival of a frame or the answer to a
    subscription shows its value.
    """
    model = find_model(spec.model)
    if model is None:
        return []
    sent = {field.name for field in bound_fields(model, spec)} | {
        field.name for field in model._meta.concrete_fields if field.primary_key
    }
    found: list[Problem] = []

    def warn(path: str, text: str) -> None:
        found.append(Problem(path, f"Binding {spec.stream!r}: {text}"))

    for index, name in enumerate(spec.fields or ()):
        field = _find_concrete(model, name)
        if field is not None and field.primary_key:
            warn(
                f"$.fields[{index}]",
                f"{name!r} is the primary key, which is sent as 'pk' and not in the data. Remove it.",
            )
    # The server fills in the fields of the scope, so clients cannot try values.
    owned = {field.name for name in spec.scope if (field := _find_concrete(model, name))}
    for index, template in enumerate(spec.group_templates):
        for name in template.placeholders:
            if (field := _find_concrete(model, name)) and field.name not in sent | owned:
                warn(
                    f"$.groups[{index}]",
                    f"the group template {template.text!r} uses {name!r}, which is not sent: clients that may "
                    f"subscribe can find out its value by trying. Send it, or group by another field.",
                )
    for name in spec.where:
        if (field := _find_concrete(model, name)) and field.name not in sent:
            warn(
                f"$.where.{name}",
                f"'where' asks for {name!r}, which is not sent: the presence of a row discloses its value. Send it, "
                f"or accept this.",
            )
    for name, text in _encrypted_warnings(spec, model, sent):
        warn(_field_path(spec, name), text)
    if text := _hidden_rows_warning(spec, model):
        warn("$.model", text)
    if spec.auto_subscribe and not any(template.is_constant for template in spec.group_templates):
        warn(
            "$.auto_subscribe",
            "every group template has placeholders, so no client is subscribed at connect. Add a template without any.",
        )
    return found


def waiting(spec: BindingSpec) -> list[Problem]:
    """Return the fields of a valid spec that wait to be accepted, as one problem or none."""
    model = find_model(spec.model)
    held = held_fields(model, spec) if model is not None and spec.known is not None else []
    if model is None or not held:
        return []
    names = ", ".join(repr(field.name) for field in held)
    are, them = ("it is", "it") if len(held) == 1 else ("they are", "them")
    return [
        Problem(
            "$.exclude" if spec.fields is None else "$.fields",
            f"Binding {spec.stream!r}: {model._meta.label} got {names} later, and {are} not sent. To send {them}, "
            f"accept {them} on the binding's page in the admin or with `manage.py declbind accept {spec.stream}`. To "
            f"leave {them} out for good, name the fields to send, or add to 'exclude'.",
        )
    ]


def _encrypted_warnings(spec: BindingSpec, model: type[Model], sent: Collection[str]) -> Iterator[tuple[str, str]]:
    for field in model_fields(model):
        if not is_encrypted(field) or field.name in (spec.exclude or ()):
            continue
        if field.name in sent:
            text = "It is sent, and kept in the event log, in clear text. Exclude it, or accept this."
        elif spec.fields is None or spec.all_fields:
            text = (
                "It is therefore not sent. Name it in 'exclude' to confirm this, or in 'sensitive' to send it and keep "
                "it in the event log in clear text."
            )
        else:
            continue
        yield field.name, f"{field.name!r} is encrypted in its column. {text}"


def _hidden_rows_warning(spec: BindingSpec, model: type[Model]) -> str:
    """Return a warning for a model whose default manager hides rows, for instance deleted ones, or ``""``."""
    hiding = obstacles.hiding_fields(model)
    if hiding is None:
        return ""
    named = {field.name for name in spec.where if (field := _find_concrete(model, name))}
    if hiding and named.issuperset(hiding):
        return ""
    by = f" by {', '.join(map(repr, hiding))}" if hiding else ""
    return (
        f"the default manager of {model._meta.label} hides rows{by}. Bindings use the base manager, so clients are "
        f"sent the hidden rows too and may write them. Leave them out with 'where', or accept this."
    )


def _field_path(spec: BindingSpec, name: str) -> str:
    if spec.fields is None:
        return "$.exclude"
    return "$.fields" if name not in spec.fields else f"$.fields[{spec.fields.index(name)}]"


def _unknown_model(spec: BindingSpec) -> Problem:
    labels = [model._meta.label for model in apps.get_models()]
    name = spec.model.rpartition(".")[2].lower()
    namesakes = [label for label in labels if label.rpartition(".")[2].lower() == name]
    near = f" Did you mean {namesakes[0]!r}?" if len(namesakes) == 1 else suggest(spec.model, labels)
    fix = near or " Is its app in INSTALLED_APPS? An abstract model cannot be bound."
    return Problem("$.model", f"Binding {spec.stream!r}: expected an installed model, got {spec.model!r}.{fix}")


def _model_obstacle(model: type[Model]) -> str:
    """Return why this model cannot be bound, as a sentence, or ``""``."""
    options = model._meta
    if options.swapped:
        return f"expected a model in use, got {options.label}, which is swapped out. Bind {options.swapped!r}."
    if options.app_label == "declbind":
        # Each event would be a write of a bound model, and cause another event.
        return f"expected a model of the project, got {options.label}, which belongs to declbind."
    if len(getattr(options, "pk_fields", ())) > 1:
        return f"expected a model with one primary key column, got {options.label} with a composite one."
    if reason := obstacles.key_obstacle(options.pk):
        return f"expected a model whose rows clients can name, got {options.label}: {reason}"
    return ""


def _bound_problems(spec: BindingSpec, model: type[Model], python: bool) -> Iterator[Problem]:
    known = {field.name for field in model_fields(model)} | _pk_names(model)
    for key in ("fields", "exclude", "sensitive"):
        for index, name in enumerate(getattr(spec, key) or ()):
            if key == "sensitive" and (python or spec.serializer != "default") and is_sensitive(name):
                # An additional key of a serializer, or of code of the class.
                continue
            if name not in known and not (key == "fields" and spec.all_fields):
                yield _unknown_field(spec, model, f"$.{key}[{index}]", name, known - _pk_names(model))
    if spec.serializer != "default":
        return
    for field in bound_fields(model, spec):
        if reason := obstacles.send_obstacle(field):
            yield Problem(
                _field_path(spec, field.name),
                f"Binding {spec.stream!r}: {reason} Exclude the field, give it a value_to_string() of its own, or use "
                f"a serializer of your own.",
            )


def _sensitive_problems(spec: BindingSpec, model: type[Model], python: bool) -> Iterator[Problem]:
    if python:
        return
    key = model._meta.pk
    if is_sensitive_field(key) and key.name not in spec.sensitive:
        yield Problem(
            "$.model",
            f"Binding {spec.stream!r}: the primary key {key.name!r} of {model._meta.label} looks sensitive "
            f"and would be "
            f'sent with every frame. Bind another model, or add "sensitive": ["{key.name}"] if it is to be '
            f"sent.",
        )
    for exposed in exposed_fields(model, spec):
        if exposed.key == "model" or exposed.name in spec.sensitive or not exposed.is_sensitive:
            continue
        is_sent = exposed.key == "fields"
        reached = "is to be sent" if is_sent else "may become known to clients"
        yield Problem(
            exposed.path,
            f"Binding {spec.stream!r}: field {exposed.name!r} of {model._meta.label} looks sensitive. Remove it from "
            f"'{exposed.key}', or name it in 'sensitive' as well if it {reached}.",
        )


def _writable_problems(spec: BindingSpec, model: type[Model]) -> Iterator[Problem]:
    known = {field.name: field for field in model_fields(model)}
    bound = {field.name for field in bound_fields(model, spec)}
    for index, name in enumerate(spec.writable or ()):
        path = f"$.writable[{index}]"
        if name in _pk_names(model):
            yield Problem(
                path,
                f"Binding {spec.stream!r}: {name!r} is the primary key, which clients never set. Remove it.",
            )
        elif name not in known:
            yield _unknown_field(spec, model, path, name, known)
        elif name not in bound:
            yield Problem(
                path,
                f"Binding {spec.stream!r}: field {name!r} of {model._meta.label} is writable but not sent. "
                f"Clients write "
                f"only what they see: add it to the bound fields, or remove it here.",
            )
        elif not is_editable(known[name]):
            yield Problem(
                path,
                f"Binding {spec.stream!r}: field {name!r} of {model._meta.label} is not editable, so clients "
                f"cannot set "
                f"it. Remove it.",
            )


def _template_problems(spec: BindingSpec, model: type[Model]) -> Iterator[Problem]:
    for index, template in enumerate(spec.group_templates if spec.groups else ()):
        for name in template.placeholders:
            path = f"$.groups[{index}]"
            yield from _concrete_problems(spec, model, path, name)
            yield from _comparison_problems(spec, model, path, name)


def _where_problems(spec: BindingSpec, model: type[Model]) -> Iterator[Problem]:
    for name, value in spec.where.items():
        path = f"$.where.{name}"
        faults = [
            *_concrete_problems(spec, model, path, name),
            *_comparison_problems(spec, model, path, name, in_params=False),
        ]
        yield from faults
        if faults:
            continue
        field = concrete_field(model, name)
        items: list[tuple[str, Any]] = (
            [(f"{path}[{index}]", item) for index, item in enumerate(value)] if isinstance(value, tuple) else []
        )
        for place, item in items or [(path, value)]:
            if item is not None and not _takes(field, item):
                yield Problem(
                    place,
                    f"Binding {spec.stream!r}: expected a value for {field.name!r} of {model._meta.label}, "
                    f"which is a "
                    f"{type(field).__name__}, got {item!r}. Write it as the field would be written in JSON.",
                )


def _comparison_problems(
    spec: BindingSpec, model: type[Model], path: str, name: str, *, in_params: bool = True
) -> Iterator[Problem]:
    field = _find_concrete(model, name)
    if field is not None and (reason := obstacles.comparison_obstacle(field, in_params=in_params)):
        yield Problem(path, f"Binding {spec.stream!r}: {reason} Use another field.")


def _takes(field: Field[Any, Any], value: object) -> bool:
    try:
        # The same conversion as in the binding.
        for item in accepted_values(field, value):
            comparable(field, item)
    except Exception:  # A field of the project may raise anything. The exception means that the value does not fit.
        return False
    return True


def _scope_problems(spec: BindingSpec, model: type[Model]) -> Iterator[Problem]:
    yield from _owner_problems(spec, model, "$.scope", spec.scope)


def _capture_problems(spec: BindingSpec) -> Iterator[Problem]:
    if spec.capture == "triggers" and settings.TENANT is not None:
        yield Problem(
            "$.capture",
            f"Binding {spec.stream!r}: expected 'orm' on a site with tenants, got 'triggers'. A trigger does not "
            "record the tenant of a write. Announce what raw SQL writes with declbind.touch(queryset).",
        )


def _relate_problems(spec: BindingSpec, model: type[Model]) -> Iterator[Problem]:
    relations = {field.name: field for field in model_fields(model) if field.is_relation}
    for name, rule in spec.relate.items():
        path = f"$.relate.{name}"
        if name not in relations:
            yield Problem(
                path,
                f"Binding {spec.stream!r}: expected a foreign key or a many-to-many field of {model._meta.label}, got "
                f"{name!r}."
                f"{suggest(name, list(relations))}",
            )
        elif not isinstance(rule, str):
            related: Any = relations[name].remote_field
            yield from _owner_problems(spec, related.model, path, rule)
    if not (spec.scope or settings.TENANT) or not spec.inbound:
        return
    why = "each user is limited to their own rows" if spec.scope else "each tenant has its own rows"
    owned = {field.name for name in spec.scope if (field := _find_concrete(model, name))}
    written = {field.name for field in writable_fields(model, spec) if field.is_relation}
    for name in sorted(written - owned - spec.relate.keys()):
        yield Problem(
            "$.relate",
            f"Binding {spec.stream!r}: {why}, and clients may write the relation {name!r}. Say "
            f'which rows they may choose, such as {{"{name}": {{"owner_id": "$user.pk"}}}} or {{"{name}": "any"}}, or '
            "leave it out of 'writable'.",
        )


def _owner_problems(spec: BindingSpec, model: type[Model], place: str, owners: Mapping[str, str]) -> Iterator[Problem]:
    """Yield the problems of conditions that compare fields of a model with fields of the user."""
    user = get_user_model()
    for name, source in owners.items():
        path = f"{place}.{name}"
        yield from _concrete_problems(spec, model, path, name)
        yield from _comparison_problems(spec, model, path, name, in_params=False)
        wanted = source.removeprefix("$user.")
        field = user._meta.pk if wanted == "pk" else _find_concrete(user, wanted)
        if field is None:
            names = [choice for column in user._meta.concrete_fields for choice in (column.name, column.attname)]
            yield Problem(
                path,
                f"Binding {spec.stream!r}: expected '$user.pk' or a field of {user._meta.label}, got "
                f"{source!r}."
                f"{suggest(wanted, names)}",
            )
        elif is_sensitive_field(field):
            yield Problem(
                path,
                f"Binding {spec.stream!r}: {source!r} looks sensitive and would become part of a group's "
                f"name. "
                f"Use '$user.pk'.",
            )


def _also_problems(spec: BindingSpec, model: type[Model]) -> Iterator[Problem]:
    for index, path in enumerate(spec.also):
        try:
            find_hops(model, path)
        except LookupError as error:
            yield Problem(f"$.also[{index}]", f"Binding {spec.stream!r}: {error.args[0]}.")


def _concrete_problems(spec: BindingSpec, model: type[Model], path: str, name: str) -> Iterator[Problem]:
    if _find_concrete(model, name) is not None:
        return
    if any(name == field.name for field in model._meta.many_to_many):
        yield Problem(
            path,
            f"Binding {spec.stream!r}: field {name!r} of {model._meta.label} is many-to-many and has no "
            f"column in the "
            f"row. Use a field that has one.",
        )
        return
    names = {choice for field in model._meta.concrete_fields for choice in (field.name, field.attname)}
    yield _unknown_field(spec, model, path, name, names)


def _unknown_field(spec: BindingSpec, model: type[Model], path: str, name: str, known: Collection[str]) -> Problem:
    text = f"Binding {spec.stream!r}: field {name!r} does not exist on {model._meta.label}."
    by_attname = {field.attname: field.name for field in model_fields(model) if hasattr(field, "attname")}
    if by_attname.get(name) in known:
        return Problem(path, f"{text} Did you mean {by_attname[name]!r}?")
    others = {item.name: item for item in model._meta.get_fields(include_hidden=True)}
    if name in others:
        kind = type(others[name]).__name__
        return Problem(
            path,
            f"Binding {spec.stream!r}: {name!r} of {model._meta.label} is not a column of the row but a "
            f"{kind}. Remove it.",
        )
    if "." in name or "__" in name.strip("_"):
        return Problem(path, f"{text} Only fields of the model itself can be named; relations are not followed.")
    near = suggest(name, sorted(known))
    return Problem(path, text + (near or f" Known are {', '.join(sorted(known)) or 'none'}."))


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
        fix = near or " Declare it in the Meta.permissions of a model, or use true, false, 'authenticated' or 'staff'."
        yield Problem(
            f"$.permissions.{action}" if action else "$.permissions",
            f"Binding {spec.stream!r}: permission {rule!r} does not exist.{fix}",
        )


def _serializer_problems(spec: BindingSpec) -> Iterator[Problem]:
    names = serializer_names()
    if spec.serializer not in names:
        near = suggest(spec.serializer, names)
        yield Problem(
            "$.serializer",
            f"Binding {spec.stream!r}: expected a serializer of DECLBIND['SERIALIZERS'] "
            f"({', '.join(names)}), got "
            f"{spec.serializer!r}.{near or ' Add it to the setting.'}",
        )


def _find_concrete(model: type[Model], name: str) -> Field[Any, Any] | None:
    try:
        return concrete_field(model, name)
    except LookupError:
        return None


def _pk_names(model: type[Model]) -> set[str]:
    return {name for field in model._meta.concrete_fields if field.primary_key for name in (field.name, field.attname)}

"""The validation of the fields that a binding record names: they exist, fit their purpose, and disclose no secret."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from django.contrib.auth import get_user_model
from django.db.models import Model

from declbind import obstacles
from declbind.conf import settings
from declbind.core.errors import Problem
from declbind.core.sentences import Sentence
from declbind.core.sentences import Sentence as _
from declbind.core.spec import BindingSpec
from declbind.core.wording import did_you_mean, known_names, suggest
from declbind.django_types import Column, related_model
from declbind.exposure import exposed_fields
from declbind.fields import (
    bound_fields,
    concrete_field,
    find_column,
    is_editable,
    is_sensitive,
    is_sensitive_field,
    key_names,
    model_fields,
    writable_fields,
)
from declbind.relations import find_hops
from declbind.stored_values import comparable
from declbind.value_validation import accepted_values


def find_field_problems(spec: BindingSpec, model: type[Model], python: bool) -> Iterator[Problem]:
    """Yield the problems of the fields that ``spec`` names.

    ``python`` is for binding classes, which may name a sensitive field without ``sensitive``.
    """
    yield from _bound_problems(spec, model, python)
    if not python:
        yield from _sensitive_problems(spec, model)
    yield from _writable_problems(spec, model)
    yield from _template_problems(spec, model)
    yield from _where_problems(spec, model)
    yield from _owner_problems(model, "$.scope", spec.scope)
    yield from _relate_problems(spec, model)
    yield from _also_problems(spec, model)


def field_path(spec: BindingSpec, name: str) -> str:
    """Return the place of the record that decides whether a field is sent, as a JSON path."""
    if spec.fields is None:
        return "$.exclude"
    return "$.fields" if name not in spec.fields else f"$.fields[{spec.fields.index(name)}]"


def _bound_problems(spec: BindingSpec, model: type[Model], python: bool) -> Iterator[Problem]:
    known = {field.name for field in model_fields(model)} | key_names(model)
    for key in ("fields", "exclude", "sensitive"):
        for index, name in enumerate(getattr(spec, key) or ()):
            if key == "sensitive" and (python or spec.serializer != "default") and is_sensitive(name):
                # An additional key of a serializer, or of code of the class.
                continue
            if name not in known and not (key == "fields" and spec.all_fields):
                yield _unknown_field(model, f"$.{key}[{index}]", name, known - key_names(model))
    if spec.serializer != "default":
        return
    for field in bound_fields(model, spec):
        if reason := obstacles.send_obstacle(field):
            yield Problem(
                field_path(spec, field.name),
                reason
                + _(" Exclude the field, give it a value_to_string() of its own, or use a serializer of your own."),
            )


def _sensitive_problems(spec: BindingSpec, model: type[Model]) -> Iterator[Problem]:
    key = model._meta.pk
    if is_sensitive_field(key) and key.name not in spec.sensitive:
        yield Problem(
            "$.model",
            _(
                "the primary key %(field)r of %(model)s looks sensitive and would be sent with every frame. Bind "
                'another model, or add "sensitive": ["%(field)s"] if it is to be sent.',
                field=key.name,
                model=model._meta.label,
            ),
        )
    for exposed in exposed_fields(model, spec):
        if exposed.key == "model" or exposed.name in spec.sensitive or not exposed.is_sensitive:
            continue
        values = {"field": exposed.name, "model": model._meta.label, "key": exposed.key}
        if exposed.key == "fields":
            text = _(
                "field %(field)r of %(model)s looks sensitive. Remove it from '%(key)s', or name it in 'sensitive' as "
                "well if it is to be sent.",
                **values,
            )
        else:
            text = _(
                "field %(field)r of %(model)s looks sensitive. Remove it from '%(key)s', or name it in 'sensitive' as "
                "well if it may become known to clients.",
                **values,
            )
        yield Problem(exposed.path, text)


def _writable_problems(spec: BindingSpec, model: type[Model]) -> Iterator[Problem]:
    known = {field.name: field for field in model_fields(model)}
    bound = {field.name for field in bound_fields(model, spec)}
    for index, name in enumerate(spec.writable or ()):
        path = f"$.writable[{index}]"
        values = {"field": name, "model": model._meta.label}
        if name in key_names(model):
            yield Problem(path, _("%(field)r is the primary key, which clients never set. Remove it.", **values))
        elif name not in known:
            yield _unknown_field(model, path, name, known)
        elif name not in bound:
            text = _(
                "field %(field)r of %(model)s is writable but not sent. Clients write only what they see: add it to "
                "the bound fields, or remove it here.",
                **values,
            )
            yield Problem(path, text)
        elif not is_editable(known[name]):
            text = _(
                "field %(field)r of %(model)s is not editable, so clients cannot set it. Remove it.",
                **values,
            )
            yield Problem(path, text)


def _template_problems(spec: BindingSpec, model: type[Model]) -> Iterator[Problem]:
    for index, template in enumerate(spec.group_templates if spec.groups else ()):
        for name in template.placeholders:
            path = f"$.groups[{index}]"
            yield from _concrete_problems(model, path, name)
            yield from _comparison_problems(model, path, name)


def _where_problems(spec: BindingSpec, model: type[Model]) -> Iterator[Problem]:
    for name, value in spec.where.items():
        path = f"$.where.{name}"
        faults = [
            *_concrete_problems(model, path, name),
            *_comparison_problems(model, path, name, in_params=False),
        ]
        yield from faults
        if faults:
            continue
        field = concrete_field(model, name)
        items: list[tuple[str, object]] = (
            [(f"{path}[{index}]", item) for index, item in enumerate(value)] if isinstance(value, tuple) else []
        )
        for place, item in items or [(path, value)]:
            if item is not None and not _takes(field, item):
                yield Problem(
                    place,
                    _(
                        "expected a value for %(field)r of %(model)s, which is a %(kind)s, got %(value)s. Write it as "
                        "the field would be written in JSON.",
                        field=field.name,
                        model=model._meta.label,
                        kind=type(field).__name__,
                        value=repr(item),
                    ),
                )


def _comparison_problems(model: type[Model], path: str, name: str, *, in_params: bool = True) -> Iterator[Problem]:
    field = find_column(model, name)
    if field is not None and (reason := obstacles.comparison_obstacle(field, in_params=in_params)):
        yield Problem(path, reason + _(" Use another field."))


def _takes(field: Column, value: object) -> bool:
    try:
        # The same conversion as in the binding.
        for item in accepted_values(field, value):
            comparable(field, item)
    except Exception:  # A field of the project may raise anything. The exception means that the value does not fit.
        return False
    return True


def _relate_problems(spec: BindingSpec, model: type[Model]) -> Iterator[Problem]:
    relations = {field.name: field for field in model_fields(model) if field.is_relation}
    for name, rule in spec.relate.items():
        path = f"$.relate.{name}"
        if name not in relations:
            expected = _(
                "expected a foreign key or a many-to-many field of %(model)s, got %(name)r.",
                model=model._meta.label,
                name=name,
            )
            yield Problem(path, expected + suggest(name, list(relations)))
        elif not isinstance(rule, str):
            yield from _owner_problems(related_model(relations[name]), path, rule)
    if not (spec.scope or settings.TENANT) or not spec.inbound:
        return
    owned = {field.name for name in spec.scope if (field := find_column(model, name))}
    written = {field.name for field in writable_fields(model, spec) if field.is_relation}
    for name in sorted(written - owned - spec.relate.keys()):
        yield Problem("$.relate", _open_relation(name, has_scope=bool(spec.scope)))


def _open_relation(name: str, *, has_scope: bool) -> Sentence:
    if has_scope:
        return _(
            "each user is limited to their own rows, and clients may change the relation %(field)r. Choose which rows "
            'they may link to, such as {"%(field)s": {"owner_id": "$user.pk"}} or {"%(field)s": "any"}, or leave it '
            "out of 'writable'.",
            field=name,
        )
    return _(
        "each tenant has its own rows, and clients may change the relation %(field)r. Choose which rows they may link "
        'to, such as {"%(field)s": {"owner_id": "$user.pk"}} or {"%(field)s": "any"}, or leave it out of '
        "'writable'.",
        field=name,
    )


def _owner_problems(model: type[Model], place: str, owners: Mapping[str, str]) -> Iterator[Problem]:
    """Yield the problems of conditions that compare fields of a model with fields of the user."""
    user = get_user_model()
    for name, source in owners.items():
        path = f"{place}.{name}"
        yield from _concrete_problems(model, path, name)
        yield from _comparison_problems(model, path, name, in_params=False)
        wanted = source.removeprefix("$user.")
        field = user._meta.pk if wanted == "pk" else find_column(user, wanted)
        if field is None:
            names = [choice for column in user._meta.concrete_fields for choice in (column.name, column.attname)]
            expected = _(
                "expected '$user.pk' or a field of %(model)s, got %(source)r.",
                model=user._meta.label,
                source=source,
            )
            yield Problem(path, expected + suggest(wanted, names))
        elif is_sensitive_field(field):
            text = _(
                "%(source)r looks sensitive and would become part of a group's name. Use '$user.pk'.", source=source
            )
            yield Problem(path, text)


def _also_problems(spec: BindingSpec, model: type[Model]) -> Iterator[Problem]:
    for index, path in enumerate(spec.also):
        try:
            find_hops(model, path)
        except LookupError as error:
            yield Problem(f"$.also[{index}]", error.args[0] + ".")


def _concrete_problems(model: type[Model], path: str, name: str) -> Iterator[Problem]:
    if find_column(model, name) is not None:
        return
    if any(name == field.name for field in model._meta.many_to_many):
        text = _(
            "field %(field)r of %(model)s is many-to-many and has no column in the row. Use a field that has one.",
            field=name,
            model=model._meta.label,
        )
        yield Problem(path, text)
        return
    names = {choice for field in model._meta.concrete_fields for choice in (field.name, field.attname)}
    yield _unknown_field(model, path, name, names)


def _unknown_field(model: type[Model], path: str, name: str, known: Collection[str]) -> Problem:
    text = _("field %(field)r does not exist on %(model)s.", field=name, model=model._meta.label)
    by_attname = {field.attname: field.name for field in model_fields(model) if hasattr(field, "attname")}
    if by_attname.get(name) in known:
        return Problem(path, text + did_you_mean(by_attname[name]))
    others = {item.name: item for item in model._meta.get_fields(include_hidden=True)}
    if name in others:
        reason = _(
            "%(field)r of %(model)s is not a column of the row but a %(kind)s. Remove it.",
            field=name,
            model=model._meta.label,
            kind=type(others[name]).__name__,
        )
        return Problem(path, reason)
    if "." in name or "__" in name.strip("_"):
        return Problem(path, text + _(" Only fields of the model itself can be named; relations are not followed."))
    return Problem(path, text + (suggest(name, sorted(known)) or known_names(sorted(known))))

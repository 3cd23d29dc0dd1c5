"""Warnings about valid binding records: settings that are allowed but probably not intended."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from django.db.models import Model

from declbind import obstacles
from declbind.core.errors import Problem
from declbind.core.sentences import Sentence
from declbind.core.sentences import Sentence as _
from declbind.core.spec import BindingSpec
from declbind.core.wording import in_binding
from declbind.field_validation import field_path
from declbind.fields import bound_fields, find_column, find_model, held_fields, model_fields
from declbind.stored_values import is_encrypted

#: The place of a warning as a JSON path, and its text without the name of the binding.
_Warning = tuple[str, Sentence]


def find_warnings(spec: BindingSpec) -> list[Problem]:
    """Return settings of a valid spec that are allowed but probably not intended."""
    model = find_model(spec.model)
    if model is None:
        return []
    sent = {field.name for field in bound_fields(model, spec)}
    found = [
        *_key_warnings(spec, model),
        *_disclosure_warnings(spec, model, sent),
        *_encryption_warnings(spec, model, sent),
        *_hidden_rows_warnings(spec, model),
        *_subscription_warnings(spec),
    ]
    return [Problem(path, in_binding(spec.stream, text)) for path, text in found]


def _key_warnings(spec: BindingSpec, model: type[Model]) -> Iterator[_Warning]:
    for index, name in enumerate(spec.fields or ()):
        field = find_column(model, name)
        if field is not None and field.primary_key:
            text = _("%(field)r is the primary key, which is sent as 'pk' and not in the data. Remove it.", field=name)
            yield f"$.fields[{index}]", text


def _disclosure_warnings(spec: BindingSpec, model: type[Model], sent: Collection[str]) -> Iterator[_Warning]:
    """Yield warnings about groups and conditions over fields that are not sent.

    They disclose the field, because the arrival of a frame or the answer to a subscription shows its value.
    """
    known = {*sent, *(field.name for field in model._meta.concrete_fields if field.primary_key)}
    # The server fills in the fields of the scope, so clients cannot try values.
    owned = {field.name for name in spec.scope if (field := find_column(model, name))}
    for index, template in enumerate(spec.group_templates):
        for name in template.placeholders:
            if (field := find_column(model, name)) and field.name not in known | owned:
                text = _(
                    "the group template %(template)r uses %(field)r, which is not sent: clients that may subscribe can "
                    "find out its value by trying. Send it, or group by another field.",
                    template=template.text,
                    field=name,
                )
                yield f"$.groups[{index}]", text
    for name in spec.where:
        if (field := find_column(model, name)) and field.name not in known:
            text = _(
                "'where' asks for %(field)r, which is not sent: the presence of a row discloses its value. Send it, or "
                "accept this.",
                field=name,
            )
            yield f"$.where.{name}", text


def _subscription_warnings(spec: BindingSpec) -> Iterator[_Warning]:
    if spec.auto_subscribe and not any(template.is_constant for template in spec.group_templates):
        yield (
            "$.auto_subscribe",
            _(
                "every group template has placeholders, so no client is subscribed at connect. Add a template without "
                "any."
            ),
        )


def find_waiting_fields(spec: BindingSpec) -> list[Problem]:
    """Return the fields of a valid spec that wait to be accepted, as one problem or none."""
    model = find_model(spec.model)
    held = held_fields(model, spec) if model is not None and spec.known is not None else []
    if model is None or not held:
        return []
    values = {
        "model": model._meta.label,
        "fields": ", ".join(repr(field.name) for field in held),
        "stream": spec.stream,
    }
    if len(held) == 1:
        text = _(
            "%(model)s got %(fields)s later, and it is not sent. To send it, accept it on the binding's page in the "
            "admin or with `manage.py declbind accept %(stream)s`. To leave it out for good, name the fields to send, "
            "or add to 'exclude'.",
            **values,
        )
    else:
        text = _(
            "%(model)s got %(fields)s later, and they are not sent. To send them, accept them on the binding's page in "
            "the admin or with `manage.py declbind accept %(stream)s`. To leave them out for good, name the fields to "
            "send, or add to 'exclude'.",
            **values,
        )
    return [Problem("$.exclude" if spec.fields is None else "$.fields", in_binding(spec.stream, text))]


def _encryption_warnings(spec: BindingSpec, model: type[Model], sent: Collection[str]) -> Iterator[_Warning]:
    for field in model_fields(model):
        if not is_encrypted(field) or field.name in (spec.exclude or ()):
            continue
        if field.name in sent:
            text = _(
                "%(field)r is encrypted in its column. It is sent, and kept in the event log, in clear text. Exclude "
                "it, or accept this.",
                field=field.name,
            )
        elif spec.fields is None or spec.all_fields:
            text = _(
                "%(field)r is encrypted in its column. It is therefore not sent. Name it in 'exclude' to confirm this, "
                "or in 'sensitive' to send it and keep it in the event log in clear text.",
                field=field.name,
            )
        else:
            continue
        yield field_path(spec, field.name), text


def _hidden_rows_warnings(spec: BindingSpec, model: type[Model]) -> Iterator[_Warning]:
    """Yield a warning for a model whose default manager hides rows, for instance deleted ones."""
    hiding = obstacles.hiding_fields(model)
    if hiding is None:
        return
    named = {field.name for name in spec.where if (field := find_column(model, name))}
    if hiding and named.issuperset(hiding):
        return
    if hiding:
        text = _(
            "the default manager of %(model)s hides rows by %(fields)s. Bindings use the base manager, so clients are "
            "sent the hidden rows too and may write them. Leave them out with 'where', or accept this.",
            model=model._meta.label,
            fields=", ".join(map(repr, hiding)),
        )
    else:
        text = _(
            "the default manager of %(model)s hides rows. Bindings use the base manager, so clients are sent the "
            "hidden rows too and may write them. Leave them out with 'where', or accept this.",
            model=model._meta.label,
        )
    yield "$.model", text

"""The fields of a model that a binding uses: which are sent, which may be written, which look sensitive."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from django.apps import apps
from django.db.models import ManyToManyField, Model

from declbind.core.spec import BindingSpec
from declbind.django_types import Column
from declbind.rights_models import is_secret_column, value_field
from declbind.stored_values import column_of, is_encrypted

# Parts of a name that suggest a secret anywhere in it, and parts that must be words of their own, since "pin" is in
# "spinning" too.
_SENSITIVE_PARTS = (
    "password",
    "passwd",
    "passphrase",
    "passcode",
    "token",
    "secret",
    "hash",
    "credential",
    "apikey",
    "privatekey",
    "sessionkey",
    "accesskey",
    "signingkey",
    "encryptionkey",
)
_SENSITIVE_WORDS = frozenset({"pwd", "otp", "totp", "hotp", "pin", "puk", "salt", "cvv", "cvc"})
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


def is_sensitive(name: str) -> bool:
    """Return whether a field of this name looks like one that holds a password, a token or another secret.

    A false positive (``hashtag``) costs its owner one entry under ``sensitive``. A false negative discloses a
    secret. In case of doubt the answer is therefore True.
    """
    words = [word.lower() for word in _WORD.findall(name)]
    joined = "".join(words)
    return any(part in joined for part in _SENSITIVE_PARTS) or any(
        word in _SENSITIVE_WORDS or word.removesuffix("s") in _SENSITIVE_WORDS for word in words
    )


def is_sensitive_field(field: Column) -> bool:
    """Return whether the value sent for this field looks sensitive, by its name or by its model.

    In a model of tokens, one-time-password devices or sessions, each field that may hold the secret is sensitive. A
    relation sends the key of the other row, and a session's key is what gives access to it.
    """
    return is_sensitive(field.name) or is_sensitive(value_field(field).name) or is_secret_column(field)


def find_model(label: str) -> type[Model] | None:
    """Return the installed model of ``"app_label.ModelName"`` in any case, or None.

    Abstract models are not installed.
    """
    app_label, _, model_name = label.partition(".")
    for config in apps.get_app_configs():
        if config.label.lower() == app_label.lower():
            try:
                return config.get_model(model_name)
            except LookupError:
                continue
    return None


def model_fields(model: type[Model]) -> list[Column]:
    """Return the fields that a binding could send, in model order: columns first, then many-to-many.

    The primary key is left out, because frames carry it beside the data. So is the link to a parent under
    multi-table inheritance, which has the same value. Reverse relations and generic foreign keys have no value of
    their own in the row. Lists of other packages, such as django-taggit's tags, are left out too: their rows may
    depend on a generic foreign key, and nothing says which of their columns refers to which row.
    """
    own = model._meta
    columns = [field for field in own.concrete_fields if field is not own.pk and not field.primary_key]
    # The list also holds fields of packages, unlike in the stubs.
    lists: Sequence[object] = own.many_to_many
    return [*columns, *(field for field in lists if isinstance(field, ManyToManyField))]


def concrete_field(model: type[Model], name: str) -> Column:
    """Return the column that a template, ``where`` or ``scope`` names by field name or attname; pk included.

    Raises:
        LookupError: There is no such column. Django's FieldDoesNotExist is not a LookupError.
    """
    for field in model._meta.concrete_fields:
        if name in (field.name, field.attname):
            return field
    raise LookupError(f"Expected a column of {model._meta.label}, got {name!r}.")


def find_column(model: type[Model], name: str) -> Column | None:
    """Return the column of this field name or attname, or ``None``."""
    try:
        return concrete_field(model, name)
    except LookupError:
        return None


def key_names(model: type[Model]) -> set[str]:
    """Return the field names and attnames of a model's primary key. A child table has the keys of its parents too."""
    return {name for field in model._meta.concrete_fields if field.primary_key for name in (field.name, field.attname)}


def stored_field(model: type[Model], name: str) -> Column:
    """Return the column that holds the values of ``concrete_field``, which differs if the field is translated."""
    return column_of(concrete_field(model, name))


def bound_fields(model: type[Model], spec: BindingSpec) -> list[Column]:
    """Return the fields that the binding sends: in the order of ``fields``, or in model order. Never the pk.

    With ``"__all__"`` or ``exclude``, a field that looks sensitive or is encrypted in its column is left out unless
    ``sensitive`` names it. So is a field that was added to the model later, unless the record has ``grow`` (see
    ``held_fields``). A name that does not exist is left out too; the validation of the record reports it.
    """
    if spec.fields is not None and not spec.all_fields:
        known = {field.name: field for field in model_fields(model)}
        return [known[name] for name in spec.fields if name in known]
    left_out = set(spec.exclude or ())
    allowed = None if spec.grow else spec.known
    return [
        field
        for field in model_fields(model)
        if field.name not in left_out
        if allowed is None or field.name in allowed
        if field.name in spec.sensitive or not (is_sensitive_field(field) or is_encrypted(field))
    ]


def held_fields(model: type[Model], spec: BindingSpec) -> list[Column]:
    """Return the fields that ``"__all__"`` or ``exclude`` would send once they are accepted.

    They were added to the model after the record was last stored. A spec without ``known`` holds nothing back.
    """
    sent = {field.name for field in bound_fields(model, spec)}
    return [field for field in bound_fields(model, replace(spec, known=None)) if field.name not in sent]


def hold_back(model: type[Model], spec: BindingSpec, names: Collection[str]) -> BindingSpec:
    """Return a spec that does not send the fields of these names, unless it lists them itself."""
    if not names or not spec.is_open:
        return replace(spec, known=None) if spec.known is not None else spec
    everything = bound_fields(model, replace(spec, known=None))
    return replace(spec, known=frozenset(field.name for field in everything).difference(names))


def writable_fields(model: type[Model], spec: BindingSpec) -> list[Column]:
    """Return the bound fields that clients may set, in the order of ``writable`` or else of the bound fields."""
    editable = {field.name: field for field in bound_fields(model, spec) if is_editable(field)}
    names: Iterable[str] = editable if spec.writable is None else spec.writable
    return [editable[name] for name in names if name in editable]


def is_editable(field: Column) -> bool:
    """Return whether a form would offer this field: no pk, no generated column, no link to a parent's row."""
    is_parent_link = bool(getattr(field.remote_field, "parent_link", False))
    return field.editable and not field.primary_key and not field.generated and not is_parent_link

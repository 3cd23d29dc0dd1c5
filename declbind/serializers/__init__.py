"""Serializers, which turn a row into the ``data`` of a frame.

A serializer is a callable ``(instance, binding) -> dict`` of JSON values. ``default`` sends the bound fields as
Django's JSON encoder writes them. To add a serializer, put its dotted path into ``DECLBIND["SERIALIZERS"]`` or call
``register_serializer``, and name it in a record. ``declbind.fields`` decides
which fields are sent.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from functools import lru_cache

from django.core.serializers.json import DjangoJSONEncoder
from django.utils.module_loading import import_string

from declbind import signals
from declbind.conf import registered_serializers, serializer_names, settings
from declbind.django_types import Column

from .default import serialize_fields
from .exact import exact_key

#: A callable that takes the row and the binding, and returns JSON values.
Serializer = Callable[..., Mapping[str, object]]


def get_serializer(name: str) -> Serializer:
    """Return the serializer with a name.

    Args:
        name: The name that records use.

    Returns:
        The serializer.

    Raises:
        LookupError: The name is neither in the setting nor registered.
    """
    if name in registered_serializers:
        return registered_serializers[name]
    if name in settings.SERIALIZERS:
        return _load(settings.SERIALIZERS[name])
    if name == "default":
        return serialize_fields
    known = ", ".join(serializer_names())
    raise LookupError(f"Serializer {name!r} is not in DECLBIND['SERIALIZERS'] (there are: {known}).")


def register_serializer(name: str, serializer: Serializer) -> None:
    """Register a serializer from code, for example in an app's ``ready()``.

    The order of the apps does not matter: bindings that name the serializer are validated again.

    Args:
        name: The name that records use.
        serializer: A callable that takes the row and the binding.

    Raises:
        ValueError: The name is taken.
    """
    if name in serializer_names() and registered_serializers.get(name) is not serializer:
        raise ValueError(f"Serializer {name!r} exists already; choose another name.")
    if name not in registered_serializers:
        registered_serializers[name] = serializer
        signals.serializer_registered.send(sender=serializer)


@lru_cache(maxsize=64)
def _load(path: str) -> Serializer:
    loaded: Serializer = import_string(path)
    return loaded


def encode_value(value: object) -> str:
    """Return the compact JSON text of a value: dates, decimals and UUIDs as Django writes them.

    NaN and infinities become null.

    Raises:
        TypeError: The value has no JSON form.
    """
    if type(value) is int:
        return str(value)
    try:
        text = _dump(value)
    except ValueError:
        text = _dump(_finite(value))
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        # No driver can send a lone surrogate as text, but its escape sequence can be sent.
        text = json.dumps(json.loads(text), separators=(",", ":"))
    return text


def encode_key(pk: object, field: Column | None = None) -> str:
    """Return the JSON text of a row's key ``pk``, in the form of ``exact_key``.

    ``field`` is the column that holds the key. It converts keys of classes that have no JSON form.
    """
    return encode_value(exact_key(pk, field))


# The encoder is reused, because creating one takes as long as encoding a row. It has no state.
_encoder = DjangoJSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _dump(value: object) -> str:
    return _encoder.encode(value)


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value

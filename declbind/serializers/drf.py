"""Serialization of rows by a serializer of Django REST framework (extra ``drf``)."""

from __future__ import annotations

from django.db import models
from rest_framework.serializers import BaseSerializer

from declbind.serializers import Serializer
from declbind.serializers.default import BoundFields


def serialize_with(serializer_class: type[BaseSerializer]) -> Serializer:
    """Return a serializer for ``DECLBIND["SERIALIZERS"]`` that sends what ``serializer_class`` represents.

    Fields of the model are sent only if they are bound, so the record still determines which of them are sent. Names
    that are not fields of the model (``SerializerMethodField``) are always sent.

        # notes/serializers.py; in the settings: DECLBIND = {"SERIALIZERS": {"note": "notes.serializers.send_note"}}
        send_note = serialize_with(NoteSerializer)

    Args:
        serializer_class: A subclass of REST framework's ``Serializer``.
    """

    def serialize(instance: models.Model, binding: BoundFields) -> dict[str, object]:
        bound = {field.name for field in binding.bound_fields()}
        closed = {field.name for field in instance._meta.get_fields()} - bound
        data = serializer_class(instance).data
        return {name: value for name, value in data.items() if name not in closed}

    return serialize

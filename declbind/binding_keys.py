"""The keys of a binding record as attributes of a class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from django.db import models

from declbind.core.errors import ConfigError
from declbind.core.spec import DEFAULTS, KEYS, BindingSpec, Capture, Condition, Direction

Rule = str | bool


class BindingKeys:
    """A binding record that is written as a class. Every key of the record is a class attribute of the same name."""

    model: ClassVar[type[models.Model] | str | None] = None
    stream: ClassVar[str | None] = None
    fields: ClassVar[Sequence[str] | None] = None
    exclude: ClassVar[Sequence[str] | None] = None
    groups: ClassVar[Sequence[str]] = ()
    permissions: ClassVar[Mapping[str, Rule] | Rule] = {}
    direction: ClassVar[Direction] = "both"
    writable: ClassVar[Sequence[str] | None] = None
    where: ClassVar[Mapping[str, Condition]] = {}
    scope: ClassVar[Mapping[str, str]] = {}
    relate: ClassVar[Mapping[str, str | Mapping[str, str]]] = {}
    grow: ClassVar[bool] = False
    auto_subscribe: ClassVar[bool] = False
    sensitive: ClassVar[Sequence[str]] = ()
    serializer: ClassVar[str] = "default"
    capture: ClassVar[Capture] = "orm"
    also: ClassVar[Sequence[str]] = ()
    retention: ClassVar[int | None] = None
    enabled: ClassVar[bool] = True
    description: ClassVar[str] = ""
    #: The fields that ``"__all__"`` and ``exclude`` may send; set by the registry (see ``BindingSpec.known``).
    known: ClassVar[frozenset[str] | None] = None

    @classmethod
    def is_concrete(cls) -> bool:
        """Return whether the class names a model and a stream."""
        return cls.model is not None and cls.stream is not None

    @classmethod
    def spec(cls) -> BindingSpec:
        """Return the class as a binding record.

        Raises:
            ConfigError: The class has neither ``fields`` nor ``exclude``, or breaks the schema.
        """
        document: dict[str, Any] = {
            key: list(value) if isinstance(value := getattr(cls, key), tuple) else value
            for key in KEYS
            if key not in ("model", "stream") and getattr(cls, key) != DEFAULTS[key]
        }
        if cls.fields is None and cls.exclude is None:
            raise ConfigError(f"{cls.__module__}.{cls.__qualname__}: expected 'fields' or 'exclude', got neither.")
        return BindingSpec(stream=cls.stream or "", model=cls.model_name(), known=cls.known, **document)

    @classmethod
    def model_name(cls) -> str:
        """Return the bound model as ``app_label.ModelName``."""
        assert cls.model is not None
        return cls.model if isinstance(cls.model, str) else cls.model._meta.label

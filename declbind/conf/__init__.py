"""The setting ``DECLBIND``, with a default for every key; ``table`` describes the keys.

``from declbind.conf import settings`` gives an object whose attributes are these keys. Values are read from
Django's settings at first use and again after ``setting_changed``, so ``override_settings(DECLBIND={...})`` works.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any

from django.conf import settings as django_settings
from django.core.signals import setting_changed

from .table import SETTINGS

#: Every key with its default.
DEFAULTS: dict[str, Any] = {key: setting.default for key, setting in SETTINGS.items()}

#: Serializers that were registered in code, by name; see ``declbind.serializers.register_serializer``.
registered_serializers: dict[str, Callable[..., Mapping[str, object]]] = {}


def serializer_names() -> list[str]:
    """Return the names that a record's ``serializer`` may have, sorted."""
    return sorted({"default", *settings.SERIALIZERS, *registered_serializers})


class Settings:
    """The keys of ``DECLBIND`` as attributes. An unknown key is an ``AttributeError``."""

    def __getattr__(self, name: str) -> Any:
        if name not in DEFAULTS:
            raise AttributeError(f"DECLBIND has no key {name!r}{_suggest(name)}")
        # Stored as attributes, so that __getattr__ is not called again. Each write of any model reads a setting.
        values = {**DEFAULTS, **self._usable()}
        vars(self).update((key, values[key]) for key in DEFAULTS)
        return values[name]

    def unknown_keys(self) -> list[str]:
        """Return the unknown keys of ``settings.DECLBIND``, each with a suggestion."""
        return [f"{key!r}{_suggest(key)}" for key in sorted(self._given()) if key not in DEFAULTS]

    def reload(self) -> None:
        """Forget the values read so far."""
        vars(self).clear()

    def _usable(self) -> dict[str, object]:
        # A system check reports a value of the wrong type. It must not stop Django before the check runs.
        return {
            key: value
            for key, value in self._given().items()
            if not isinstance(DEFAULTS.get(key), list | dict) or isinstance(value, type(DEFAULTS[key]) | tuple)
        }

    @staticmethod
    def _given() -> dict[str, object]:
        given = getattr(django_settings, "DECLBIND", {})
        return given if isinstance(given, dict) else {}


def _suggest(name: str) -> str:
    close = difflib.get_close_matches(name.upper(), DEFAULTS, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


settings = Settings()


def _reload_on_change(*, setting: str, **kwargs: object) -> None:
    if setting == "DECLBIND":
        settings.reload()


setting_changed.connect(_reload_on_change, dispatch_uid="declbind.conf")

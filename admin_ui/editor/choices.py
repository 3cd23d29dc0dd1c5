"""The choices of the form that depend on the project: its models and its serializers."""

from __future__ import annotations

from django.apps import apps
from django.utils.translation import gettext as _

from declbind.conf import serializer_names
from declbind.fields import find_model


def model_choices(current: str) -> list[tuple[str, str | list[tuple[str, str]]]]:
    """Return the models that can be bound, by app. ``current`` is included as it is written, even if it is missing."""
    choices: list[tuple[str, str | list[tuple[str, str]]]] = [("", _("Choose a model"))]
    known = find_model(current) if current else None
    if current and known is None:
        choices.append((current, _("{model} (not installed)").format(model=current)))
    for config in apps.get_app_configs():
        models = [
            (current if model is known else model._meta.label, f"{model._meta.object_name}")
            for model in config.get_models()
            if config.label != "declbind" and not model._meta.swapped
        ]
        if models:
            choices.append((str(config.verbose_name), [(value, f"{config.label}.{name}") for value, name in models]))
    return choices


def serializer_choices(current: str) -> list[tuple[str, str]]:
    """Return the serializers of the settings, and the current one even if it is missing there."""
    names = serializer_names()
    missing = (
        [(current, _("{serializer} (not in the settings)").format(serializer=current))] if current not in names else []
    )
    return [*[(name, name) for name in names], *missing]

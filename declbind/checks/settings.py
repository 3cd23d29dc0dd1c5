"""Checks of the ``DECLBIND`` setting (E001 to E006, E009)."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error
from django.core.checks import Warning as CheckWarning
from django.utils.module_loading import import_string

from declbind.conf import settings
from declbind.conf.table import SETTINGS
from declbind.live.server_limits import OPTION, VARIABLE
from declbind.rights_models import unknown_labels


def check_settings(**kwargs: object) -> list[CheckMessage]:
    """Check the dict ``DECLBIND`` (E001 to E006, E009). Makes no query."""
    given = getattr(django_settings, "DECLBIND", {})
    if not isinstance(given, dict):
        return [
            Error(
                f"settings.DECLBIND: expected a dict, got {given!r}.",
                hint='Write DECLBIND = {"POLL_SECONDS": 0.25}, or leave it out: every key has a default.',
                id="declbind.E001",
            )
        ]
    found: list[CheckMessage] = [
        Error(
            f"settings.DECLBIND: there is no key {key}.",
            hint=f"Remove it. The keys are: {', '.join(sorted(SETTINGS))}.",
            id="declbind.E002",
        )
        for key in settings.unknown_keys()
    ]
    wrong = {key for key, value in given.items() if key in SETTINGS and not SETTINGS[key].kind.accepts(value)}
    found += [
        Error(
            f"settings.DECLBIND[{key!r}]: expected {SETTINGS[key].kind.words}, got "
            f"{type(given[key]).__name__ if SETTINGS[key].is_secret else repr(given[key])}.",
            hint=f"The default is {SETTINGS[key].default!r}.",
            id="declbind.E003",
        )
        for key in sorted(wrong)
    ]
    for key, check in (
        ("SERIALIZERS", _serializers),
        ("RECORD_DIRS", _record_dirs),
        ("CHANNEL_LAYER", _layer_alias),
        ("RIGHTS_MODELS", _rights_models),
    ):
        if key in given and key not in wrong:
            found += check(given[key])
    return found


def check_origins(**kwargs: object) -> list[CheckMessage]:
    """Check that clients cannot choose the site's own origin (W020). Makes no query."""
    if settings.ALLOWED_ORIGINS is not None or "*" not in django_settings.ALLOWED_HOSTS:
        return []
    return [
        CheckWarning(
            'settings.ALLOWED_HOSTS: "*" accepts any host name, and without DECLBIND["ALLOWED_ORIGINS"] a page may '
            "open a socket if it comes from the host that the request names. A page of a foreign domain that resolves "
            "to this server could connect with the cookies of that domain.",
            hint='List the names of the site in ALLOWED_HOSTS, or its origins in DECLBIND["ALLOWED_ORIGINS"], such as '
            '["https://example.com"].',
            id="declbind.W020",
        )
    ]


def check_message_size(**kwargs: object) -> list[CheckMessage]:
    """Check that the environment limits the messages of uvicorn, if uvicorn is installed (W021). Starts nothing."""
    limit = os.environ.get(VARIABLE, "")
    is_set = limit.isdigit() and int(limit) <= settings.MAX_FRAME_BYTES
    if is_set or importlib.util.find_spec("uvicorn") is None:
        return []
    return [
        CheckWarning(
            "uvicorn is installed. By default it reads messages of 16 MiB into memory before declbind can refuse them, "
            f"and declbind accepts messages of up to {settings.MAX_FRAME_BYTES} bytes.",
            hint=f"Set {VARIABLE}={settings.MAX_FRAME_BYTES} where uvicorn runs and where this check does, or start "
            f"uvicorn with {OPTION} {settings.MAX_FRAME_BYTES} and silence the check: SILENCED_SYSTEM_CHECKS = "
            '["declbind.W021"].',
            id="declbind.W021",
        )
    ]


def is_readable() -> bool:
    """Return whether the settings are usable. If they are not, ``check_settings`` reports why."""
    return not {message.id for message in check_settings()} & {"declbind.E001", "declbind.E003"}


def _serializers(serializers: dict[str, str]) -> Iterator[CheckMessage]:
    for name, path in serializers.items():
        try:
            if callable(import_string(path)):
                continue
            fault = "which is not callable"
        except Exception as error:  # The module may raise anything when it is imported.
            fault = f"which cannot be imported: {error}"
        yield Error(
            f"settings.DECLBIND['SERIALIZERS'][{name!r}]: expected the dotted path of a callable "
            f"(instance, binding) -> dict, got {path!r}, {fault}.",
            hint="Every binding with this serializer would fail. Correct the path, or remove the entry.",
            id="declbind.E004",
        )


def _record_dirs(folders: Sequence[str | Path]) -> Iterator[CheckMessage]:
    for folder in folders:
        if not Path(folder).is_dir():
            yield Error(
                f"settings.DECLBIND['RECORD_DIRS']: expected a folder at {str(folder)!r}, found none.",
                hint=f"Create it, or remove it from the setting. A relative path starts at {str(Path.cwd())!r}.",
                id="declbind.E005",
            )


def _layer_alias(alias: str | None) -> Iterator[CheckMessage]:
    layers = getattr(django_settings, "CHANNEL_LAYERS", None) or {}
    if alias is not None and alias not in layers:
        known = ", ".join(map(repr, layers)) or "nothing"
        yield Error(
            f"settings.DECLBIND['CHANNEL_LAYER']: expected an alias of CHANNEL_LAYERS, got {alias!r}.",
            hint=f"CHANNEL_LAYERS has {known}. None means no doorbell: processes read the log every POLL_SECONDS.",
            id="declbind.E006",
        )


def _rights_models(labels: Sequence[str]) -> Iterator[CheckMessage]:
    for label in unknown_labels(labels):
        yield Error(
            f"settings.DECLBIND['RIGHTS_MODELS']: expected an installed model, got {label!r}.",
            hint="Write it as app_label.ModelName. Until then, the intended model may be bound like any other.",
            id="declbind.E009",
        )

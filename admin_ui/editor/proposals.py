"""Proposals for a new binding: the name of its stream."""

from __future__ import annotations

import re

from declbind.fields import find_model
from declbind.models import BindingRecord
from declbind.registry import get_registry

MAX_STREAM = 64


def propose_stream(label: str) -> str:
    """Return a free stream name for a model: its plural, with the app before it or a number if it is taken.

    Returns "" if the model is not installed. Makes one query.
    """
    model = find_model(label)
    if model is None:
        return ""
    plural = _tidy(str(model._meta.verbose_name_plural)) or _tidy(model._meta.model_name or "") or "rows"
    taken = taken_streams()
    for name in (plural, f"{_tidy(model._meta.app_label)}-{plural}"[:MAX_STREAM]):
        if name not in taken:
            return name
    return free_stream(plural, "", taken)


def free_stream(stream: str, ending: str, taken: set[str]) -> str:
    """Return ``<stream><ending>``, with a number if that name is taken."""
    number = 1
    while True:
        last = ending if number == 1 else f"{ending}-{number}"
        name = stream[: MAX_STREAM - len(last)] + last
        if name not in taken:
            return name
        number += 1


def taken_streams() -> set[str]:
    """Return the streams of the database, files and classes. Makes one query."""
    taken = set(BindingRecord.objects.values_list("stream", flat=True))
    return taken | {entry.stream for entry in get_registry().entries}


def _tidy(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:MAX_STREAM]

"""The check whether a write can be logged in the database that it goes to."""

from __future__ import annotations

import logging
from typing import Any

from django.db import models, router

from declbind.django_types import Rows
from declbind.registry import current_registry, database_alias

from . import log

logger = logging.getLogger("declbind")

#: Models and databases whose uncaptured writes have already been reported.
_reported: set[tuple[str, str]] = set()


def is_logged(model: type[models.Model], using: str | None) -> bool:
    """Return whether writes of a model to a database can be logged. If a bound model's cannot, log a warning once.

    The system check only finds a router that sends a bound model elsewhere. This function also finds ``using=`` in the
    project's code.
    """
    if log.is_here(using):
        return True
    concrete = model._meta.concrete_model
    if using is None or concrete is None or using == database_alias() or (concrete._meta.label, using) in _reported:
        return False
    bindings = current_registry().by_model.get(concrete._meta.label_lower, ())
    if any(binding.spec().outbound for binding in bindings):
        _reported.add((concrete._meta.label, using))
        logger.error(
            "Writes of %s to database %r are not captured: the log is in %r, and an event is stored in the transaction "
            "of its write. Bound by: %s. Write to %r, or route declbind's models to the database of the bound ones.",
            concrete._meta.label,
            using,
            database_alias(),
            ", ".join(repr(binding.stream) for binding in bindings),
            database_alias(),
        )
    return False


def database_of(rows: Rows) -> str:
    """Return the database that a query set writes to."""
    query_set: Any = rows  # The type stubs lack private attributes.
    using: str = query_set._db or router.db_for_write(rows.model, **query_set._hints)
    return using

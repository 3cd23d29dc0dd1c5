"""Take SQLite's triggers out for the time of a migration.

There a trigger holds on to the columns it names: a migration that takes one away would fail, and one that makes its
table anew would lose the trigger without a word. PostgreSQL's triggers ask a row for what it has.
"""

from __future__ import annotations

import logging
from collections.abc import Sized

from django.db import connections
from django.db.models.signals import post_migrate, pre_migrate

from declbind.registry import database_alias

from . import upkeep

logger = logging.getLogger("declbind")

#: Databases whose triggers were taken out by the migration that runs.
_taken_out: set[str] = set()


def take_out(using: str, plan: Sized = (), **kwargs: object) -> None:
    """Take the triggers out where something is to be migrated."""
    if not plan or using != database_alias() or connections[using].vendor != "sqlite" or using in _taken_out:
        return
    if upkeep.remove(using):
        _taken_out.add(using)


def put_back(using: str, **kwargs: object) -> None:
    """Put them back as the bindings want them now; what was written meanwhile went unheard, which is said."""
    if using not in _taken_out:
        return
    _taken_out.discard(using)
    try:
        upkeep.install(using)
    except Exception as error:
        logger.error(
            "The triggers could not be put back after the migration: %s. Raw SQL and other programs go unheard until "
            "`manage.py declbind triggers --install` has run.",
            error,
        )


def install() -> None:
    """Listen for migrations."""
    pre_migrate.connect(take_out, dispatch_uid="declbind.triggers.take_out")
    post_migrate.connect(put_back, dispatch_uid="declbind.triggers.put_back")

"""Removal of SQLite's triggers during a migration.

SQLite's triggers depend on the columns that they name. A migration that removes such a column would fail, and a
migration that recreates the table would silently drop the trigger. PostgreSQL's triggers look up the columns at run
time.
"""

from __future__ import annotations

import logging
from collections.abc import Sized

from django.db import connections
from django.db.models.signals import post_migrate, pre_migrate

from declbind.registry import database_alias

from . import upkeep

logger = logging.getLogger("declbind")

#: Databases whose triggers were removed by the current migration.
_taken_out: set[str] = set()


def take_out(using: str, plan: Sized = (), **kwargs: object) -> None:
    """Remove the triggers if the migration plan is not empty."""
    if not plan or using != database_alias() or connections[using].vendor != "sqlite" or using in _taken_out:
        return
    if upkeep.remove(using):
        _taken_out.add(using)


def put_back(using: str, **kwargs: object) -> None:
    """Install the triggers that bindings need now, and make subscribers take a snapshot.

    The writes of the migration were not captured.
    """
    if using not in _taken_out:
        return
    _taken_out.discard(using)
    try:
        upkeep.install(using)
    except Exception as error:
        logger.error(
            "The triggers could not be reinstalled after the migration: %s. Raw SQL and other programs are not "
            "captured until `manage.py declbind triggers --install` has run.",
            error,
        )


def install() -> None:
    """Connect the functions of this module to the migration signals."""
    pre_migrate.connect(take_out, dispatch_uid="declbind.triggers.take_out")
    post_migrate.connect(put_back, dispatch_uid="declbind.triggers.put_back")

"""Bindings whose tables are reported by triggers."""

import contextlib

from django.db import connection

from declbind.outbound.triggers import upkeep
from declbind.testing import capture_events, override_bindings

KEEPERS = {"stream": "keepers", "model": "zoo.Keeper", "fields": ["name", "retired"], "capture": "triggers"}
BY_NAME = {**KEEPERS, "groups": ["n-{name}"]}
TRUCKS = {"stream": "trucks", "model": "zoo.Truck", "fields": ["plate", "load"], "capture": "triggers"}
FED = {"stream": "fed", "model": "zoo.Animal", "fields": ["name", "foods"], "capture": "triggers"}


@contextlib.contextmanager
def marking(*bindings):
    """Put bindings in force with their triggers, and collect the events of the block."""
    with override_bindings(*bindings):
        upkeep.install("default")
        try:
            with capture_events() as events:
                yield events
        finally:
            upkeep.remove("default")


def run(sql, *params):
    with connection.cursor() as cursor:
        cursor.execute(sql, params)

"""Shared parts of the tests of capture: bindings, captured events, and the hooks removed."""

import contextlib
from unittest.mock import patch

import pytest
from django.db import connection

from declbind.outbound import capture
from declbind.testing import capture_events, override_bindings

KEEPERS = {"stream": "keepers", "model": "zoo.Keeper", "fields": ["name", "retired"]}
ANIMALS = {"stream": "animals", "model": "zoo.Animal", "fields": ["name", "legs"]}
BY_KEEPER = {**ANIMALS, "groups": ["keeper-{keeper_id}"]}
FED = {"stream": "fed", "model": "zoo.Animal", "fields": ["name", "foods"]}
FEATHERS = {"stream": "feathers", "model": "zoo.Feather", "fields": ["animal", "colour"]}
VEHICLES = {"stream": "vehicles", "model": "zoo.Vehicle", "fields": ["plate"]}
TRUCKS = {"stream": "trucks", "model": "zoo.Truck", "fields": ["plate", "load"]}
BY_NAME = {**KEEPERS, "groups": ["retired-{retired}"]}

takes_target = pytest.mark.skipif(
    not connection.features.supports_update_conflicts_with_target, reason="MySQL and MariaDB take no conflict target."
)


@contextlib.contextmanager
def watching(*bindings):
    """Put bindings in force and collect the events of the block."""
    with override_bindings(*bindings), capture_events() as events:
        yield events


def changes(events):
    """Return (stream, pk, changes) of each event, in order."""
    return [(event.stream, event.pk, event.changes) for event in events]


def actions(events):
    """Return (stream, pk, actions) of each event, in order."""
    return [(event.stream, event.pk, [action for _, action in event.changes]) for event in events]


@contextlib.contextmanager
def uncaptured():
    """Remove the hooks, as if declbind were not installed."""
    with contextlib.ExitStack() as stack:
        for owner, name, _ in capture.HOOKS:
            stack.enter_context(patch.object(owner, name, getattr(owner, name).__wrapped__))
        yield

"""Deliberately broken capture: the judge of the matrix must detect each variant, on a part of the matrix."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from unittest.mock import patch

import pytest
from django.db import connection, transaction
from hypothesis import HealthCheck, Phase
from hypothesis import settings as hypothesis_settings
from hypothesis.stateful import run_state_machine_as_test

from declbind.outbound import capture, drafts, entries, joint_update, log, plans, saved_rows, written_rows
from declbind.outbound import index as indexes
from declbind.outbound.lists import forget_list_managers
from declbind.serializers import encode_value
from declbind.testing import override_bindings

from .bindings import SETS, observers_of
from .kinds import KINDS
from .scenarios import Scenario, run
from .test_machine import Writers
from .ways import WAYS

pytestmark = pytest.mark.usefixtures("arena")


def unhooked(name: str) -> AbstractContextManager[object]:
    """Remove one hook."""
    [owner] = [owner for owner, hook, _ in capture.HOOKS if hook == name]
    return patch.object(owner, name, getattr(owner, name).__wrapped__)


@contextlib.contextmanager
def unhooked_lists() -> Iterator[None]:
    """Remove the hook of list managers; Django keeps its managers."""
    with unhooked("create_forward_many_to_many_manager"):
        forget_list_managers()
        yield
    forget_list_managers()


@contextlib.contextmanager
def old_groups_after_the_write() -> Iterator[None]:
    """Compute the old groups from the row as it is now."""
    original = drafts.draft_write

    def draft_write(plan, row, pk, old, using, *args):
        return original(plan, row, pk, None if old is None else drafts.groups_of(plan, row, using), using, *args)

    with contextlib.ExitStack() as stack:
        for module in (saved_rows, joint_update, written_rows):
            stack.enter_context(patch.object(module, "draft_write", draft_write))
        yield


@contextlib.contextmanager
def events_after_the_commit() -> Iterator[None]:
    """Append the events after the commit: a crash in between loses them."""

    def append(found, using, began_in=None):
        transaction.on_commit(lambda: entries.insert(found, connection) if found else None)

    with patch.object(log, "append", append):
        yield


@contextlib.contextmanager
def events_that_outlive_a_rollback() -> Iterator[None]:
    """Append the events outside the transaction, whether or not it is rolled back."""
    waiting: list[entries.Draft] = []
    leave = transaction.Atomic.__exit__

    def append(found, using, began_in=None):
        waiting.extend(found)

    def leave_and_append(self, *error):
        leave(self, *error)
        if waiting and not connection.in_atomic_block:
            entries.insert(waiting, connection)
            waiting.clear()

    with patch.object(log, "append", append), patch.object(transaction.Atomic, "__exit__", leave_and_append):
        yield


@contextlib.contextmanager
def last_row_forgotten() -> Iterator[None]:
    """Leave out the last of several rows."""
    original = written_rows.WrittenRows._draft_rows

    def draft_rows(self):
        found = original(self)
        return found[:-1] if len(found) > 1 else found

    with patch.object(written_rows.WrittenRows, "_draft_rows", draft_rows):
        yield


@contextlib.contextmanager
def resync_of_new_groups_only() -> Iterator[None]:
    """Leave out the groups that many rows have left."""
    original = written_rows.WrittenRows._touch_moved

    def touch_moved(self):
        self.touched = {outlet: {} for outlet in self.plan.outlets}
        original(self)

    with patch.object(written_rows.WrittenRows, "_touch_moved", touch_moved):
        yield


@contextlib.contextmanager
def resync_of_old_groups_only() -> Iterator[None]:
    """Leave out the groups that many rows have entered."""
    with patch.object(written_rows.WrittenRows, "_touch_moved", lambda self: None):
        yield


@contextlib.contextmanager
def hiding_delete_with_new_values() -> Iterator[None]:
    """Send a row's new values to clients that lose sight of it."""
    original = drafts._draft

    def draft(plan, outlet, row, *args, **kwargs):
        made = original(plan, outlet, row, *args, **kwargs)
        return made._replace(data=encode_value(outlet.binding().serialize_data(row)))

    with patch.object(drafts, "_draft", draft):
        yield


@contextlib.contextmanager
def children_without_events() -> Iterator[None]:
    """Report a table's rows only to the bindings of its own model."""

    original = indexes.Listeners.of

    def of(self, table):
        found = original(self, table)
        return found._replace(family=tuple(one for one in found.family if one.lookup == "pk"))

    with patch.object(indexes.Listeners, "of", of):
        yield


@contextlib.contextmanager
def lists_reported_to_all() -> Iterator[None]:
    """Report a list to bindings that do not send it."""
    with patch.object(plans.Plan, "outlets_of", lambda self, field: self.outlets):
        yield


@contextlib.contextmanager
def hidden_rows_not_searched() -> Iterator[None]:
    """Assume that a group which depends on no column is never left."""
    needs_old = property(lambda self: self.group_fields is None or bool(self.group_fields))
    with patch.object(plans.Plan, "needs_old", needs_old):
        yield


@dataclass(frozen=True)
class Control:
    """A broken variant, and where it must be detected: way, kind, move, outcome, bindings, limit."""

    name: str
    sabotage: Callable[[], AbstractContextManager[object]]
    slices: Sequence[tuple[str, str, str, str, str, int]]


def _hook(name: str, *where: tuple[str, str, str, str, str, int]) -> Control:
    return Control(f"without {name}", lambda: unhooked(name), where)


CONTROLS = (
    _hook("_save_parents", ("save", "child", "move", "autocommit", "templated", 1_000)),
    _hook("_save_table", ("save new", "plain", "stay", "committed", "constant", 1_000)),
    _hook("delete", ("delete", "plain", "stay", "autocommit", "constant", 1_000)),
    _hook("update", ("update many", "uuid", "move", "nested", "conditions", 1_000)),
    _hook("bulk_update", ("bulk update in batches", "plain", "stay", "committed", "constant", 2)),
    _hook("bulk_create", ("bulk create", "text key", "stay", "autocommit", "lists", 1_000)),
    _hook("_raw_delete", ("raw delete of many", "plain", "stay", "committed", "code", 1_000)),
    Control(
        "without create_forward_many_to_many_manager",
        unhooked_lists,
        [
            ("list set", "plain", "stay", "autocommit", "lists", 1_000),
            ("list set anew", "plain", "stay", "committed", "lists", 1_000),
        ],
    ),
    Control(
        "old groups after the write",
        old_groups_after_the_write,
        [
            ("save a row read by only", "plain", "move", "autocommit", "templated", 1_000),
            ("update many", "plain", "move", "committed", "conditions", 1_000),
        ],
    ),
    Control(
        "events after the commit",
        events_after_the_commit,
        [
            ("create", "plain", "stay", "committed", "constant", 1_000),
            ("update many", "plain", "stay", "nested", "constant", 2),
        ],
    ),
    Control(
        "events that outlive a rollback",
        events_that_outlive_a_rollback,
        [
            ("create", "plain", "stay", "undone by hand", "constant", 1_000),
            ("delete of a query set", "plain", "stay", "undone by hand", "templated", 2),
        ],
    ),
    Control(
        "the last row forgotten",
        last_row_forgotten,
        [
            ("update many", "plain", "stay", "autocommit", "constant", 1_000),
            ("bulk create", "plain", "stay", "committed", "templated", 1_000),
            ("set null of a query set", "dated", "stay", "committed", "conditions", 1_000),
        ],
    ),
    Control(
        "resync of new groups only",
        resync_of_new_groups_only,
        [("update many", "plain", "move", "autocommit", "templated", 2)],
    ),
    Control(
        "resync of old groups only",
        resync_of_old_groups_only,
        [("bulk update", "plain", "move", "autocommit", "conditions", 2)],
    ),
    Control(
        "a delete that hides with the new values",
        hiding_delete_with_new_values,
        [("save", "plain", "hide", "autocommit", "conditions", 1_000)],
    ),
    Control(
        "children without events",
        children_without_events,
        [
            ("update one", "parent bound by child", "move", "autocommit", "constant", 1_000),
            ("save", "parent bound by grandchild", "move", "committed", "templated", 1_000),
        ],
    ),
    Control(
        "lists reported to all",
        lists_reported_to_all,
        [
            ("list add", "plain", "stay", "autocommit", "lists", 1_000),
            ("list loses rows of a query set", "plain", "stay", "autocommit", "lists", 2),
        ],
    ),
    Control(
        "hidden rows not searched",
        hidden_rows_not_searched,
        [("save", "hiding", "sleep", "autocommit", "constant", 1_000)],
    ),
)
SLICES = [
    pytest.param(control, where, id=f"{control.name}: {where[0]}") for control in CONTROLS for where in control.slices
]
CAUGHT = hypothesis_settings(
    max_examples=200, phases=[Phase.generate], database=None, suppress_health_check=list(HealthCheck), derandomize=True
)


@pytest.mark.parametrize(("control", "where"), SLICES)
def test_broken_capture_is_caught(control, where, settings):
    """The part of the matrix passes with sound capture, and fails with the broken variant."""
    way, kind_name, move, outcome, listeners, limit = where
    [kind] = [kind for kind in KINDS if kind.name == kind_name]
    scenario = Scenario(WAYS[way], kind, move, outcome, listeners, limit)
    settings.DECLBIND = {"BULK_LIMIT": limit}
    observers = observers_of(kind, SETS[listeners])
    with override_bindings(*(observer.build() for observer in observers)):
        assert run(scenario, observers) == []
        with control.sabotage():
            assert run(scenario, observers) != []


def test_every_hook_has_a_control():
    """Without a control, a hook could be removed without a failing test."""
    assert {f"without {name}" for _, name, _ in capture.HOOKS} <= {control.name for control in CONTROLS}


@pytest.mark.parametrize("sabotage", [events_that_outlive_a_rollback, last_row_forgotten, old_groups_after_the_write])
def test_random_sequences_catch_broken_capture(sabotage):
    """Random sequences detect the variants as well."""
    with sabotage(), pytest.raises(AssertionError):
        run_state_machine_as_test(Writers, settings=CAUGHT)

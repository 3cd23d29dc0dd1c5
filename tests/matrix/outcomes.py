"""The outcomes of the work: committed at once, committed with its transaction, or rolled back.

Each function is called with the work, a check inside the transaction, and a write beside work that is rolled back.
It returns whether the work should be visible.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from django.db import transaction

Step = Callable[[], object]


class Undo(Exception):
    """Raised to roll the innermost transaction back."""


def autocommit(work: Step, look: Step, beside: Step) -> bool:
    work()
    return True


def committed(work: Step, look: Step, beside: Step) -> bool:
    with transaction.atomic():
        work()
        look()
    return True


def nested(work: Step, look: Step, beside: Step) -> bool:
    with transaction.atomic(durable=True):
        with transaction.atomic(), transaction.atomic(savepoint=False):
            work()
        look()
    return True


def rolled_back(work: Step, look: Step, beside: Step) -> bool:
    with contextlib.suppress(Undo), transaction.atomic():
        work()
        look()
        raise Undo
    return False


def savepoint_undone(work: Step, look: Step, beside: Step) -> bool:
    with transaction.atomic():
        with contextlib.suppress(Undo), transaction.atomic():
            work()
            look()
            raise Undo
        beside()
    return False


def undone_by_hand(work: Step, look: Step, beside: Step) -> bool:
    with transaction.atomic():
        point = transaction.get_connection().savepoint()
        work()
        transaction.savepoint_rollback(point)
        beside()
    return False


OUTCOMES: dict[str, Callable[[Step, Step, Step], bool]] = {
    "autocommit": autocommit,
    "committed": committed,
    "nested": nested,
    "rolled back": rolled_back,
    "savepoint undone": savepoint_undone,
    "undone by hand": undone_by_hand,
}

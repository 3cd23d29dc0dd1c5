"""How the work ends: at once, with its transaction, or not at all.

Each is called with the work, a look that judges from inside of the transaction, and a write to make beside work that is
undone. It returns whether the work is to be seen.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from django.db import transaction

Step = Callable[[], Any]


class Undo(Exception):
    """Roll the innermost transaction back."""


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


ENDINGS: dict[str, Callable[[Step, Step, Step], bool]] = {
    "autocommit": autocommit,
    "committed": committed,
    "nested": nested,
    "rolled back": rolled_back,
    "savepoint undone": savepoint_undone,
    "undone by hand": undone_by_hand,
}

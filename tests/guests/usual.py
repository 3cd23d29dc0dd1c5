"""The usual writes of a project to the item of each shop, which must be captured beside every guest."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from django.db import connection, transaction
from django.db.models import F

from .steps import Steps


class Undo(Exception):
    """Raised to roll the innermost transaction back."""


class Usual:
    """The usual writes to a model that has a ``title`` and a ``room``.

    ``make`` stores a new row with these values, as the package requires.
    """

    def __init__(self, model: Any, make: Callable[..., object], without: frozenset[str]) -> None:
        self.model, self.make, self.without = model, make, without
        self.made = 0

    def title(self) -> str:
        """Return a title that no row has."""
        self.made += 1
        return f"t{self.made}"

    def row(self, room: int = 1) -> Any:
        """Return the last row of a room, freshly read; create one if there is none."""
        if not self.model.objects.filter(room=room).exists():
            self.make(self.title(), room)
        return self.model.objects.filter(room=room).order_by("-pk").first()

    def steps(self) -> Steps:
        """Return the writes in order."""
        step = Steps()
        for name in WRITES:
            if name not in self.without:
                step(_named(name, getattr(self, name)), may_resync=name in UNKNOWN)
        return step

    def create(self) -> None:
        for room in (1, 1, 1, 2):
            self.make(self.title(), room)

    def save(self) -> None:
        row = self.row()
        row.title = self.title()
        row.save()

    def save_of_what_is_unchanged(self) -> None:
        self.row().save()

    def save_that_moves(self) -> None:
        row = self.row()
        row.room = 2
        row.save()

    def save_of_one_field(self) -> None:
        row = self.row()
        row.title, row.room = self.title(), 9
        row.save(update_fields=["title"])

    def save_of_an_expression(self) -> None:
        row = self.row(2)
        row.room = F("room") + 1
        row.save()

    def save_of_a_deferred_row(self) -> None:
        row = self.model.objects.only("title").filter(room=1).order_by("pk").first()
        row.title = self.title()
        row.save()

    def update(self) -> None:
        self.model.objects.filter(room=1).update(title=self.title())

    def update_that_moves(self) -> None:
        self.model.objects.filter(room=3).update(room=1)

    def update_by_an_expression(self) -> None:
        self.model.objects.filter(room=2).update(room=F("room") - 1)

    def update_of_nothing(self) -> None:
        self.model.objects.filter(room=77).update(title="nobody")

    def bulk_update(self) -> None:
        rows = list(self.model.objects.filter(room=1))
        for row in rows:
            row.title, row.room = self.title(), 2
        self.model.objects.bulk_update(rows, ["title", "room"])

    def bulk_create(self) -> None:
        self.model.objects.bulk_create([self.model(title=self.title(), room=room) for room in (1, 1, 2)])

    def bulk_create_that_ignores_conflicts(self) -> None:
        self.model.objects.bulk_create([self.model(title=self.title(), room=1)], ignore_conflicts=True)

    def update_or_create(self) -> None:
        row = self.row()
        self.model.objects.update_or_create(pk=row.pk, defaults={"title": self.title()})

    def rolled_back(self) -> None:
        with contextlib.suppress(Undo), transaction.atomic():
            self.make(self.title(), 1)
            self.model.objects.filter(room=1).update(title="never")
            raise Undo

    def savepoint_undone(self) -> None:
        with transaction.atomic():
            with contextlib.suppress(Undo), transaction.atomic():
                self.model.objects.filter(room=1).update(title="never")
                raise Undo
            row = self.row()
            row.title = self.title()
            row.save()

    def prefixed_update(self) -> None:
        with prefixed("/* view=items */ "):
            self.model.objects.filter(room=1).update(title=self.title())

    def prefixed_save(self) -> None:
        with prefixed("/* view=items */ "):
            row = self.row()
            row.room = 2
            row.save()

    def delete(self) -> None:
        self.row().delete()

    def delete_of_a_query_set(self) -> None:
        self.model.objects.filter(room=2).delete()


@contextlib.contextmanager
def prefixed(text: str) -> Iterator[None]:
    """Put text in front of each statement, as tracing packages do."""
    with connection.execute_wrapper(lambda execute, sql, *rest: execute(text + sql, *rest)):
        yield


#: If triggers are involved, it is not known which rows such an insert has left out.
UNKNOWN = frozenset({"bulk_create_that_ignores_conflicts"})


def _named(name: str, run: Callable[[], None]) -> Callable[[], None]:
    def write() -> None:
        run()

    write.__name__ = name
    return write


#: The writes, in the order in which the class defines them.
WRITES = tuple(
    name
    for name, value in vars(Usual).items()
    if callable(value) and not name.startswith("_") and name not in {"title", "row", "steps"}
)

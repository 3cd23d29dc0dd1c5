"""A captured write: the reads before it, the write itself, and the events that are appended after it.

Each connection has a list of its captured writes in progress. A method that Django calls as part of such a write is
therefore not captured again. Hooks use the list to find the write that their call is part of. The detector ignores
statements of captured writes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from types import TracebackType
from typing import Literal, Self, TypeAlias, TypeVar

from django.db import connections, models, transaction
from django.db.models.expressions import RawSQL

from declbind.conf import settings
from declbind.django_types import Connection, Key, Rows

from . import log
from .batch import Batch
from .entries import Draft
from .index import Index, TableListeners
from .locks import take_write_lock
from .statements import extended_update
from .tenants import present_tenant, reaches_other_tenants
from .triggers.reporting import EVERY_TABLE, MarkedCall, Verification, find_triggers, forget_reported

#: Above this number, PostgreSQL gets keys as one array instead of a parameter each.
MAX_PLAIN_KEYS = 100
#: The nested writes that a captured write reports itself: those of the listed query sets (none if the list is empty),
#: or all until it ends.
Covered: TypeAlias = 'Sequence[object] | Literal["all"]'
Result = TypeVar("Result")
Row = TypeVar("Row", bound=models.Model)


class CapturedWrite:
    """One write of the ORM. As a context manager, it provides the transaction of the write.

    Attributes:
        using: The alias of the database.
        index: The configuration that applies to the write.
    """

    def __init__(self, connection: Connection, index: Index) -> None:
        self.using, self.index = connection.alias, index
        #: Whether triggers report rows of the write.
        self.is_marked = False
        #: Tables with only some of their triggers. The hooks report them, and marks of the installed triggers are
        #: ignored.
        self._unreported: set[str] = set()
        #: The connection's tenant when the write begins.
        self._began_in = present_tenant(connection.alias)
        self._covered: Covered = ()
        self._is_running = False
        self._connection = connection
        self._transaction: transaction.Atomic | None = None
        #: The object that identifies the calls of the write, and the transaction block in which the first call was
        #: made.
        self._subject: object = None
        self._block: transaction.Atomic | None = None
        self._call: MarkedCall | None = None

    def listeners_of(self, model: type[models.Model], *, may_be_known: bool = False) -> TableListeners:
        """Return the listeners of a model's own table to which the hooks report.

        If the triggers of the table are installed, bindings that use triggers are left out. With ``may_be_known``, a
        cached result is accepted, and the caller verifies it (see ``run_verified``).
        """
        if not self.is_table_marked(model, may_be_known=may_be_known):
            listeners = self.index.all.of(model)
            if settings.TENANT is not None:
                for plan in listeners.plans:
                    if reaches_other_tenants(model, plan.model):
                        self.batch.include_all_tenants(plan)
            return listeners
        self.is_marked = True
        return self.index.unmarked.of(model)

    @cached_property
    def batch(self) -> Batch:
        """Return the rows that are read before the write, from which the events are made."""
        return Batch(self.using)

    def is_table_marked(self, model: type[models.Model], *, may_be_known: bool = False) -> bool:
        """Return whether the triggers of a model's own table report the write."""
        table = model._meta.db_table
        marked, plan = self.index.marked.models_of(table), self.index.marked.plan_for(model)
        # Marks carry the key of one model of the table. If another model has a different key, the hooks report to its
        # bindings. A trigger's function is shared by all schemas, and its marks do not name a tenant.
        if (
            settings.TENANT is not None
            or self.index.is_trial
            or not marked
            or (plan is not None and plan.model not in marked)
        ):
            return False
        found = find_triggers(table, self.using, may_be_known=may_be_known)
        if found == "some":
            self._unreported.add(table)
        return found == "all"

    def run_verified(self, write: Callable[[], Result], model: type[models.Model]) -> Result:
        """Carry out an update of one row whose statement also checks that the triggers are still installed.

        If they are not, the bindings are sent a resync.
        """
        verification = Verification(model, self.using)
        with extended_update(verification, self._connection):
            result = self.run(write)
        still = verification.is_reported
        if still is None:
            still = self.is_table_marked(model)
        if not still:
            forget_reported(self._connection)
            for plan in self.index.marked.of(model).plans:
                self.batch.lose_track(plan)
            self.append()
        return result

    def begin_call(self, subject: object) -> None:
        """Begin a write that Django carries out in several calls, whose marks are reported as one change.

        Later calls find the write by its subject (see ``find_begun``) until ``end_call``, ``leave_call``, or the end of
        the transaction block in which it began.
        """
        under_way, blocks = _under_way(self._connection), self._connection.atomic_blocks
        # If an error occurs between two calls of a write, the write is never ended.
        under_way[:] = [write for write in under_way if write._is_running or write._is_begun]
        self._subject, self._block = subject, blocks[-1] if blocks else None
        under_way.append(self)
        if self.is_marked:
            self._call = MarkedCall(self.using, has_many_tables=True)
            self._call.begin()

    def end_call(self) -> None:
        """End the write that ``begin_call`` began."""
        self.leave_call()
        if self._call is not None:
            self._call.end()
            self._call = None
            log.ring_after_commit(self._connection)

    def leave_call(self) -> None:
        """Make the write invisible to further calls, because this is the last one or an error has ended the write."""
        self._block = None
        under_way = _under_way(self._connection)
        if self in under_way:
            under_way.remove(self)

    @property
    def _is_begun(self) -> bool:
        """Return whether calls may find the write, because the transaction block in which it began is still open."""
        return self._block is not None and self._block in self._connection.atomic_blocks

    def __enter__(self) -> Self:
        self._transaction = transaction.atomic(using=self.using, savepoint=False)
        self._transaction.__enter__()
        try:
            take_write_lock(self.using)
        except BaseException as error:
            self._transaction.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._transaction is not None
        self._transaction.__exit__(kind, error, traceback)

    def run(self, write: Callable[[], Result], covered: Covered = (), is_reported: bool = True) -> Result:
        """Carry out the write. ``covered`` are the nested writes that are part of it."""
        under_way = _under_way(self._connection)
        self._covered, self._is_running = covered, True
        under_way.append(self)
        try:
            if not (self.is_marked or self._unreported):
                return write()
            return self._run_marked(write, self._unreported if is_reported else {EVERY_TABLE})
        finally:
            self._is_running = False
            under_way.remove(self)

    def _run_marked(self, write: Callable[[], Result], unreported: set[str]) -> Result:
        if self._connection.vendor == "postgresql" and not unreported:
            result = write()
        else:
            with transaction.atomic(using=self.using, savepoint=False):
                call = MarkedCall(self.using, unreported=unreported)
                call.begin()
                result = write()
                call.end()
        log.ring_after_commit(self._connection)
        return result

    def append(self, drafts: Sequence[Draft] | None = None) -> None:
        """Append events in the transaction of the write, by default those of the batch."""
        log.append(self.batch.drafts() if drafts is None else drafts, self.using, self._began_in)

    def covers(self, rows: Rows) -> bool:
        """Return whether writes to the rows of a query set are part of this write."""
        return self._covered == "all" or any(rows is covered for covered in self._covered)


Begun = TypeVar("Begun", bound=CapturedWrite)


def find_begun(kind: type[Begun], subject: object, connection: Connection) -> Begun | None:
    """Return the innermost unfinished write of a kind that was begun for a subject, or ``None``."""
    for write in reversed(_under_way(connection)):
        if write._subject is subject and isinstance(write, kind) and write._is_begun:
            return write
    return None


def is_covered(rows: Rows, using: str) -> bool:
    """Return whether a query set's write is part of a captured write, which reports it."""
    return any(write.covers(rows) for write in _under_way(connections[using]))


def is_captured(connection: Connection) -> bool:
    """Return whether a statement on a connection is part of a captured write."""
    return any(write._is_running for write in _under_way(connection))


def _under_way(connection: Connection) -> list[CapturedWrite]:
    found: list[CapturedWrite] = vars(connection).setdefault("declbind_writes", [])
    return found


def only(rows: models.QuerySet[Row], keys: list[Key] | None, using: str) -> models.QuerySet[Row]:
    """Limit a write to the rows that were read; ``None`` means no limit.

    Between the read and the write, another transaction may commit a row that the write would match as well. The change
    of that row would not be reported. Only SQLite prevents this by itself.
    """
    connection = connections[using]
    if keys is None or connection.vendor == "sqlite":
        return rows
    if len(keys) <= MAX_PLAIN_KEYS or connection.vendor != "postgresql":
        return rows.filter(pk__in=keys)
    field = rows.model._meta.pk
    column = field.rel_db_type(connection)
    values = [field.get_db_prep_value(key, connection) for key in keys]
    return rows.filter(pk__in=RawSQL(f"SELECT unnest(%s::{column}[])", [values], output_field=field))

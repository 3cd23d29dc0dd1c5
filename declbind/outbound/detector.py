"""Detection of writes to bound tables that leave no event, with their places in the code.

Enabled by ``DECLBIND["DETECT_UNSEEN"]``. Each statement on connections to the log's database is examined, which costs
some microseconds. A connection knows the writes that the hooks capture (see ``writes``). Writes to tables with triggers
are left out when counts are stored. Counts are kept in the process and stored every few seconds by a thread of its own.
The counts cannot be stored in the transaction of the writes, because it may be rolled back. A separate thread also
delays no request.
"""

from __future__ import annotations

import atexit
import logging
import os
import re
import sys
import threading
from types import FrameType
from typing import NamedTuple

from django.core.signals import setting_changed
from django.db import connections, models
from django.db.backends.signals import connection_created
from django.utils import timezone

from declbind.conf import settings
from declbind.django_types import Connection, ExecuteContext, Method
from declbind.models import UnseenWrite
from declbind.registry import database_alias

from . import log
from .index import current_index
from .triggers import upkeep
from .writes import is_captured

logger = logging.getLogger("declbind")

STORE_SECONDS = 5.0
#: The number of places in the code that are remembered; further writes are counted without a place.
MAX_PLACES = 500
#: Modules whose frames do not identify the writer.
_OURS = ("django.", "declbind.", "contextlib", "functools", "asgiref.", "concurrent.", "threading")
_WRITE = re.compile(
    r"(?<!\bFOR )(?<!\bON )(?<!\bDO )"
    r"\b(INSERT|REPLACE|UPDATE|DELETE|TRUNCATE|MERGE|COPY)\b(?:\s+(?:OR|IGNORE|INTO|FROM|TABLE|ONLY|ROLLBACK|ABORT|FAIL))*"
    r"\s+(?:[\"`]?\w+[\"`]?\.)?[\"`]?(\w+)[\"`]?",
    re.IGNORECASE,
)
#: Text of a statement that may contain keywords without executing them.
_SAID = re.compile(r"'(?:[^']|'')*'|/\*.*?\*/|--[^\n]*", re.DOTALL)


class Place(NamedTuple):
    """A write to a table, and its place in the code."""

    table: str
    verb: str
    location: str


class Detector:
    """The counts of unseen writes. Any thread may add to them; one thread stores them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[Place, int] = {}
        self._thread: threading.Thread | None = None

    #: Tells ``statements.has_wrappers`` that this wrapper does not change statements.
    declbind_leaves_text = True

    def __call__(self, execute: Method, sql: object, params: object, many: bool, context: ExecuteContext) -> object:
        """Execute a statement. This is one of a connection's ``execute_wrappers``."""
        result = execute(sql, params, many, context)
        # An error in here must not reach the application.
        try:
            if isinstance(sql, str) and not is_captured(context["connection"]):
                self._look(sql, context)
        except Exception:
            logger.exception("A statement could not be examined.")
        return result

    def _look(self, sql: str, context: ExecuteContext) -> None:
        if _WRITE.search(sql) is None:
            return
        bound = current_index().all.bound_tables
        written = {found[2]: found[1].upper() for found in _WRITE.finditer(_SAID.sub(" ", sql)) if found[2] in bound}
        if written and not _is_empty(sql, context):
            for table, verb in written.items():
                self.note(Place(table, verb, _location(sys._getframe(2))))

    def note(self, place: Place) -> None:
        """Count a write."""
        with self._lock:
            if place not in self._counts and len(self._counts) >= MAX_PLACES:
                place = place._replace(location="")
            self._counts[place] = self._counts.get(place, 0) + 1
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="declbind-detector", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        threading.Event().wait(STORE_SECONDS)
        with self._lock:
            self._thread = None
        self.store()
        connections.close_all()

    def store(self) -> None:
        """Store the counts since the last call. If that fails, they are kept for the next call."""
        with self._lock:
            counts, self._counts = self._counts, {}
        using = database_alias()
        try:
            if log.is_here(using):
                _store(counts, using)
        except Exception as error:
            logger.warning("Writes that left no event could not be recorded: %s", error)
            with self._lock:
                for place, count in counts.items():
                    self._counts[place] = self._counts.get(place, 0) + count

    def store_at_exit(self) -> None:
        """Store the counts of a process that ends before its thread has stored them."""
        if self._counts:
            self.store()


def _store(counts: dict[Place, int], using: str) -> None:
    now = timezone.now()
    captured = {state.table for state in upkeep.load_states(using) if state.is_well} if counts else set()
    rows = UnseenWrite.objects.using(using)
    for place, count in counts.items():
        if place.table in captured:
            continue
        row, is_new = rows.get_or_create(
            table=place.table,
            verb=place.verb,
            location=place.location,
            defaults={"count": count, "first_at": now, "last_at": now},
        )
        if not is_new:
            rows.filter(pk=row.pk).update(count=models.F("count") + count, last_at=now)


def _is_empty(sql: str, context: ExecuteContext) -> bool:
    """Return whether a statement changed no row; False if the number of rows is unknown."""
    # SQLite knows the number of rows that a RETURNING statement wrote only when all of them have been fetched.
    is_counted = context["connection"].vendor != "sqlite" or "RETURNING" not in sql.upper()
    return is_counted and context["cursor"].rowcount == 0


def _location(frame: FrameType | None) -> str:
    """Return the innermost frame outside Django and declbind, as ``path:line in function``, or ""."""
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if not f"{name}.".startswith(_OURS) and not name.startswith(_OURS):
            path = frame.f_code.co_filename
            roots = sorted((root for root in sys.path if root and path.startswith(root + os.sep)), key=len)
            shown = os.path.relpath(path, roots[-1]) if roots else path
            return f"{shown}:{frame.f_lineno} in {frame.f_code.co_name}"[-300:]
        frame = frame.f_back
    return ""


detector = Detector()


def _watch(connection: Connection, **kwargs: object) -> None:
    wrappers = connection.execute_wrappers
    is_wanted = settings.DETECT_UNSEEN and connection.alias == database_alias()
    if is_wanted and detector not in wrappers:
        # The first wrapper is the outermost: it sees the statements as the application wrote them.
        wrappers.insert(0, detector)
    elif not is_wanted and detector in wrappers:
        wrappers.remove(detector)


def _on_setting_changed(*, setting: str, **kwargs: object) -> None:
    if setting == "DECLBIND":
        for connection in connections.all(initialized_only=True):
            _watch(connection)


def install() -> None:
    """Examine the statements of connections, if the setting is on."""
    connection_created.connect(_watch, dispatch_uid="declbind.detector")
    setting_changed.connect(_on_setting_changed, dispatch_uid="declbind.detector")
    atexit.register(detector.store_at_exit)

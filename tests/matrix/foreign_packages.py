"""The ways in which other packages change Django in the same process. The matrix is run again with each of them.

Each is a context manager. It does not change the project's own writes, so capture must produce the same events.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import patch

from django.db import connection
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper
from django.test import override_settings
from django.utils import timezone, translation

from declbind.outbound import capture, hooks
from declbind.outbound.lists import forget_list_managers

from .models import Piece

WRITE = re.compile(r"(INSERT|UPDATE|DELETE)\b")
WORDS = re.compile(r"\b(INSERT INTO|UPDATE|DELETE FROM|SET|WHERE|VALUES|RETURNING|SELECT|FROM)\b")


@contextlib.contextmanager
def _rewritten(rewrite: Callable[[str], str]) -> Iterator[None]:
    """Pass each statement to a function before it is run, as an execute wrapper does."""
    ran: list[str] = []

    def wrapper(execute, sql, *rest):
        ran.append(sql)
        return execute(rewrite(sql), *rest)

    with connection.execute_wrapper(wrapper):
        yield
    assert ran, "no statement passed through the package"


def prefixing_wrapper() -> AbstractContextManager[None]:
    """Put a comment before each statement, as tracing packages do."""
    return _rewritten(lambda sql: f"/* view=pieces */ {sql}")


def suffixing_wrapper() -> AbstractContextManager[None]:
    """Put a comment after each statement, as sqlcommenter does."""
    return _rewritten(lambda sql: f"{sql} /*traceparent='00-01'*/; -- end")


def rewriting_wrapper() -> AbstractContextManager[None]:
    """Rewrite each statement, on PostgreSQL with a table expression before each that changes rows."""

    def rewrite(sql: str) -> str:
        written = WORDS.sub(lambda found: found[0].lower().replace(" ", "\n  "), sql)
        # SQLite's driver does not count the rows of a statement that begins with a table expression.
        is_common = connection.vendor == "postgresql" and WRITE.match(sql)
        return f"with package(x) as (select 1)\n{written}" if is_common else written

    return _rewritten(rewrite)


class TracedCursor:
    """A cursor around Django's that records the statements."""

    def __init__(self, cursor: CursorWrapper, notes: list[str]) -> None:
        self._cursor, self._notes = cursor, notes

    def execute(self, sql: str, params: Any = None) -> Any:
        """Record the statement and run it."""
        self._notes.append(sql)
        return self._cursor.execute(sql, params)

    def executemany(self, sql: str, params: Any) -> Any:
        """Record the statement and run it for each set of parameters."""
        self._notes.append(sql)
        return self._cursor.executemany(sql, params)

    def __getattr__(self, name: str) -> object:
        return getattr(self._cursor, name)

    def __iter__(self) -> Iterator[object]:
        return iter(self._cursor)

    def __enter__(self) -> TracedCursor:
        return self

    def __exit__(self, *exc_info: Any) -> None:
        self._cursor.__exit__(*exc_info)


@contextlib.contextmanager
def wrapped_cursor() -> Iterator[None]:
    """Wrap each of Django's cursors in a cursor of the package."""
    notes: list[str] = []

    def wrapping(name: str) -> Callable[..., TracedCursor]:
        original = getattr(BaseDatabaseWrapper, name)
        return lambda self, *args: TracedCursor(original(self, *args), notes)

    names = ("cursor", "chunked_cursor")
    with contextlib.ExitStack() as stack:
        for name in names:
            stack.enter_context(patch.object(BaseDatabaseWrapper, name, wrapping(name)))
        yield
    assert notes, "no statement passed through the package"


def _foreign(method: Any, calls: list[str]) -> Any:
    """Return a wrapper as careful packages write it."""

    @functools.wraps(method)
    def foreign(*args, **kwargs):
        calls.append(method.__name__)
        return method(*args, **kwargs)

    return foreign


@contextlib.contextmanager
def _hooks(wrap: Callable[[object, object, list[str]], None]) -> Iterator[None]:
    calls: list[str] = []
    with contextlib.ExitStack() as stack:
        stack.callback(forget_list_managers)
        for hook in capture.HOOKS:
            stack.callback(setattr, hook.owner, hook.name, getattr(hook.owner, hook.name))
            wrap(hook, getattr(hook.owner, hook.name), calls)
        forget_list_managers()
        yield
    assert calls, "no call passed through the package"


def hooks_wrapped_before() -> AbstractContextManager[None]:
    """Wrap Django's methods before declbind does, so that its hooks are outside the package's wrappers."""

    def wrap(hook, method, calls):
        setattr(hook.owner, hook.name, _foreign(method.__wrapped__, calls))
        hooks.install(hook.seam, hook.wrap)

    return _hooks(wrap)


def hooks_wrapped_after() -> AbstractContextManager[None]:
    """Wrap Django's methods after declbind does, so that the package's wrappers are outside its hooks."""

    def wrap(hook, method, calls):
        setattr(hook.owner, hook.name, _foreign(method, calls))

    return _hooks(wrap)


@contextlib.contextmanager
def tracing_model() -> Iterator[None]:
    """Store field values when an instance is made and saved, as a base class of a project's models may."""
    make, save = Piece.__init__, Piece.save
    seen: list[object] = []

    def remember(self):
        self._remembered = self.name, self.value, self.room
        seen.append(self._remembered)

    def init(self, *args, **kwargs):
        make(self, *args, **kwargs)
        remember(self)

    def save_and_remember(self, *args, **kwargs):
        save(self, *args, **kwargs)
        remember(self)

    with patch.object(Piece, "__init__", init), patch.object(Piece, "save", save_and_remember):
        yield
    assert seen, "no instance was made with the package"


@contextlib.contextmanager
def another_language_and_time_zone() -> Iterator[None]:
    """Write in a thread with another language and time zone."""
    with (
        override_settings(USE_THOUSAND_SEPARATOR=True),
        translation.override("de"),
        timezone.override("Asia/Kathmandu"),
    ):
        yield


FOREIGN_PACKAGES: dict[str, Callable[[], AbstractContextManager[None]]] = {
    package.__name__.replace("_", " "): package
    for package in (
        prefixing_wrapper,
        suffixing_wrapper,
        rewriting_wrapper,
        wrapped_cursor,
        hooks_wrapped_before,
        hooks_wrapped_after,
        tracing_model,
        another_language_and_time_zone,
    )
}

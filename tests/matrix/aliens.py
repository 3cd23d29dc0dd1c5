"""Aliens: what other packages do to Django in the same process. The matrix is run once more under each of them.

Each is a context manager. It changes nothing that a project's own write does, so capture has to tell the same.
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
from django.test import override_settings
from django.utils import timezone, translation

from declbind.outbound import capture, hooks
from declbind.outbound.lists import forget_list_managers

from .models import Piece

WRITE = re.compile(r"(INSERT|UPDATE|DELETE)\b")
WORDS = re.compile(r"\b(INSERT INTO|UPDATE|DELETE FROM|SET|WHERE|VALUES|RETURNING|SELECT|FROM)\b")


@contextlib.contextmanager
def _rewritten(rewrite: Callable[[str], str]) -> Iterator[None]:
    """Give each statement to a function before it is run, as an execute wrapper does."""
    ran: list[str] = []

    def wrapper(execute: Any, sql: str, *rest: Any) -> Any:
        ran.append(sql)
        return execute(rewrite(sql), *rest)

    with connection.execute_wrapper(wrapper):
        yield
    assert ran, "no statement went by the alien"


def prefixing_wrapper() -> AbstractContextManager[None]:
    """Put a comment in front of each statement, as packages that trace do."""
    return _rewritten(lambda sql: f"/* view=pieces */ {sql}")


def suffixing_wrapper() -> AbstractContextManager[None]:
    """Put a comment behind each statement, as sqlcommenter does."""
    return _rewritten(lambda sql: f"{sql} /*traceparent='00-01'*/; -- end")


def rewriting_wrapper() -> AbstractContextManager[None]:
    """Write each statement in another way, on PostgreSQL with a table expression before each that changes rows."""

    def rewrite(sql: str) -> str:
        written = WORDS.sub(lambda found: found[0].lower().replace(" ", "\n  "), sql)
        # SQLite's driver does not count the rows of a statement that begins with a table expression.
        is_common = connection.vendor == "postgresql" and WRITE.match(sql)
        return f"with alien(x) as (select 1)\n{written}" if is_common else written

    return _rewritten(rewrite)


class TracedCursor:
    """A cursor around Django's that notes what is run."""

    def __init__(self, cursor: Any, notes: list[str]) -> None:
        self._cursor, self._notes = cursor, notes

    def execute(self, sql: str, params: Any = None) -> Any:
        """Note the statement and run it."""
        self._notes.append(sql)
        return self._cursor.execute(sql, params)

    def executemany(self, sql: str, params: Any) -> Any:
        """Note the statement and run it for each of the parameters."""
        self._notes.append(sql)
        return self._cursor.executemany(sql, params)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._cursor)

    def __enter__(self) -> TracedCursor:
        return self

    def __exit__(self, *exc_info: object) -> Any:
        return self._cursor.__exit__(*exc_info)


@contextlib.contextmanager
def wrapped_cursor() -> Iterator[None]:
    """Put a cursor of the package around each of Django's."""
    notes: list[str] = []

    def wrapping(name: str) -> Callable[..., TracedCursor]:
        original = getattr(BaseDatabaseWrapper, name)
        return lambda self, *args: TracedCursor(original(self, *args), notes)

    names = ("cursor", "chunked_cursor")
    with contextlib.ExitStack() as stack:
        for name in names:
            stack.enter_context(patch.object(BaseDatabaseWrapper, name, wrapping(name)))
        yield
    assert notes, "no statement went by the alien"


def _foreign(method: Any, calls: list[str]) -> Any:
    """Return a wrapper as careful packages write them."""

    @functools.wraps(method)
    def foreign(*args: Any, **kwargs: Any) -> Any:
        calls.append(method.__name__)
        return method(*args, **kwargs)

    return foreign


@contextlib.contextmanager
def _hooks(wrap: Callable[[Any, Any, list[str]], None]) -> Iterator[None]:
    calls: list[str] = []
    with contextlib.ExitStack() as stack:
        stack.callback(forget_list_managers)
        for hook in capture.HOOKS:
            stack.callback(setattr, hook.owner, hook.name, getattr(hook.owner, hook.name))
            wrap(hook, getattr(hook.owner, hook.name), calls)
        forget_list_managers()
        yield
    assert calls, "no call went by the alien"


def hooks_wrapped_before() -> AbstractContextManager[None]:
    """Wrap Django's methods before declbind does: its hooks are put around the package's."""

    def wrap(hook: Any, method: Any, calls: list[str]) -> None:
        setattr(hook.owner, hook.name, _foreign(method.__wrapped__, calls))
        hooks.install(hook.seam, hook.wrap)

    return _hooks(wrap)


def hooks_wrapped_after() -> AbstractContextManager[None]:
    """Wrap Django's methods after declbind has: the package's wrappers are around its hooks."""

    def wrap(hook: Any, method: Any, calls: list[str]) -> None:
        setattr(hook.owner, hook.name, _foreign(method, calls))

    return _hooks(wrap)


@contextlib.contextmanager
def tracing_model() -> Iterator[None]:
    """Remember fields when an instance is made and saved, as a base class of a project's models may."""
    make, save = Piece.__init__, Piece.save
    seen: list[Any] = []

    def remember(self: Any) -> None:
        self._remembered = self.name, self.value, self.room
        seen.append(self._remembered)

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        make(self, *args, **kwargs)
        remember(self)

    def save_and_remember(self: Any, *args: Any, **kwargs: Any) -> None:
        save(self, *args, **kwargs)
        remember(self)

    with patch.object(Piece, "__init__", init), patch.object(Piece, "save", save_and_remember):
        yield
    assert seen, "no instance was made under the alien"


@contextlib.contextmanager
def another_language_and_time_zone() -> Iterator[None]:
    """Write as a thread of somebody far away does."""
    with (
        override_settings(USE_THOUSAND_SEPARATOR=True),
        translation.override("de"),
        timezone.override("Asia/Kathmandu"),
    ):
        yield


ALIENS: dict[str, Callable[[], AbstractContextManager[None]]] = {
    alien.__name__.replace("_", " "): alien
    for alien in (
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

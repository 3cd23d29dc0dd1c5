"""A transaction of another connection that stays open, as that of a hung shell."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

from django.db import connection, connections, transaction

from declbind.models import Head
from declbind.testing import PATIENCE


@contextlib.contextmanager
def elsewhere(work: Callable[[], Any]) -> Iterator[Any]:
    """Do some work in a transaction of another connection, which stays open during the block."""
    is_done, may_end = threading.Event(), threading.Event()
    found: list[Any] = []

    def run() -> None:
        try:
            with contextlib.suppress(ZeroDivisionError), transaction.atomic():
                if connection.vendor == "postgresql":
                    with connection.cursor() as cursor:
                        cursor.execute("SET application_name = 'a hung shell'")
                found.append(work())
                is_done.set()
                may_end.wait(60)
                raise ZeroDivisionError
        finally:
            is_done.set()
            connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    assert is_done.wait(PATIENCE)
    try:
        yield found[0] if found else None
    finally:
        may_end.set()
        thread.join()


def hold_the_head() -> None:
    Head.objects.select_for_update().get(pk=1)

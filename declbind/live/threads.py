"""Run database work beside the event loop, in threads that keep Django's rules for connections."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, ParamSpec, TypeVar

from django.db import close_old_connections, connections

P = ParamSpec("P")
T = TypeVar("T")


class RequestThreads:
    """A bounded pool for requests; each call opens and closes connections as a Django request does.

    asgiref's ``sync_to_async`` would put all of it into one thread per process.
    """

    def __init__(self, size: int) -> None:
        self._executor = ThreadPoolExecutor(size, thread_name_prefix="declbind-request")

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function in the pool and return what it returns."""
        return await asyncio.get_running_loop().run_in_executor(
            self._executor, partial(_as_request, function, *args, **kwargs)
        )

    def close(self) -> None:
        """Let running calls end and take no more."""
        self._executor.shutdown(wait=False)


def _as_request(function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    close_old_connections()
    try:
        return function(*args, **kwargs)
    finally:
        close_old_connections()


class HubThread:
    """One thread with a lasting connection, for the hub's own reading: a poll must not cost a new connection."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="declbind-hub")

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function in the thread; a fault closes the thread's connections, so the next call starts anew."""
        return await asyncio.get_running_loop().run_in_executor(
            self._executor, partial(_afresh_after_fault, function, *args, **kwargs)
        )

    def close(self, *last: Callable[[], Any]) -> None:
        """Call these, close the thread's connections and end it; waits for it."""
        for function in last:
            self._executor.submit(_afresh_after_fault, function)
        self._executor.submit(connections.close_all)
        self._executor.shutdown(wait=True)


def _afresh_after_fault(function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    try:
        return function(*args, **kwargs)
    except Exception:
        connections.close_all()
        raise

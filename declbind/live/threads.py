"""Threads for database work beside the event loop. They manage connections as Django requires."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, ParamSpec, TypeVar

from django.db import close_old_connections, connections

from declbind.outbound.memory_databases import take_turn

from .fair_queue import Client, FairQueue, current_client

P = ParamSpec("P")
T = TypeVar("T")

#: The work of a thread, and the future for its result.
Call = tuple[Future[Any], Callable[[], object]]


class RequestThreads:
    """A bounded pool of threads for requests. A thread closes its database connections when it is idle.

    Under load, a connection is reused for the next call, regardless of ``CONN_MAX_AGE``. Otherwise a thousand clients
    that reconnect at once would make thousands of database connections. ``ThreadPoolExecutor`` is not used because its
    threads do not report when they are idle, and asgiref's ``sync_to_async`` would run all calls in one thread.

    Calls of different clients are served in turn, and one client gets only a part of the threads (see ``fair_queue``).
    """

    def __init__(self, size: int, each: int | None = None) -> None:
        """Create a pool. Threads are started when they are needed.

        Args:
            size: The maximum number of threads.
            each: The number of threads that may work for one client at once; ``None`` for all.
        """
        self._size = size
        self._queue: FairQueue[Call] = FairQueue(each or size)
        #: Guards the queue.
        self._changed = threading.Condition()
        self._threads: list[threading.Thread] = []
        #: Calls that are not finished. Belongs to the event loop.
        self._open = 0
        self._is_closed = False

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function in the pool and return its result.

        Raises:
            RuntimeError: The pool is closed.
        """
        if self._is_closed:
            raise RuntimeError("The threads of this hub have been closed.")
        self._open += 1
        try:
            if self._open > len(self._threads) < self._size:
                self._start_thread()
            future: Future[T] = Future()
            with self._changed:
                self._queue.put(current_client(), (future, partial(function, *args, **kwargs)))
                self._changed.notify()
            return await asyncio.wrap_future(future)
        finally:
            self._open -= 1

    def close(self) -> None:
        """Finish the calls that were queued, and then end the threads. Does not wait for them."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def _start_thread(self) -> None:
        # A daemon thread, because a process may end without closing the pool and must not wait for its threads.
        thread = threading.Thread(target=self._work, name=f"declbind-request-{len(self._threads)}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _work(self) -> None:
        last: Client | None = None
        while (taken := self._next_call(last)) is not None:
            last, (future, function) = taken
            if future.set_running_or_notify_cancel():
                try:
                    with take_turn():
                        result = function()
                except BaseException as error:
                    close_old_connections()
                    future.set_exception(error)
                else:
                    future.set_result(result)
                    del result
            # Drop the call before the next wait, because it keeps objects of the caller alive.
            del taken, future, function
        connections.close_all()

    def _next_call(self, last: Client | None) -> tuple[Client, Call] | None:
        """Return the next call in turn, or ``None`` if the pool is closed and empty. ``last`` was served before."""
        with self._changed:
            if last is not None:
                # If another thread waits, at most the client that was just served has a call that may start. This
                # thread takes it.
                self._queue.done(last)
                if self._is_closed:
                    self._changed.notify_all()
            if (call := self._queue.take()) is not None:
                return call
        close_old_connections()
        with self._changed:
            while (call := self._queue.take()) is None:
                if self._is_closed and not self._queue.has_waiting:
                    return None
                self._changed.wait()
        close_old_connections()
        return call


class HubThread:
    """One thread with a persistent database connection for the hub's own reads, so that a poll needs no new one."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="declbind-hub")

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function in the thread. A fault closes the thread's connections, so the next call opens new ones."""
        return await asyncio.get_running_loop().run_in_executor(
            self._executor, partial(_afresh_after_fault, function, *args, **kwargs)
        )

    def close(self, *last: Callable[[], object]) -> None:
        """Call the functions in ``last``, close the thread's connections and end the thread. Waits for its end."""
        for function in last:
            self._executor.submit(_afresh_after_fault, function)
        self._executor.submit(connections.close_all)
        self._executor.shutdown(wait=True)


def _afresh_after_fault(function: Callable[..., T], *args: object, **kwargs: object) -> T:
    try:
        with take_turn():
            return function(*args, **kwargs)
    except Exception:
        connections.close_all()
        raise

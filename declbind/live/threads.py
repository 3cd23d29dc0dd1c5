"""Run database work beside the event loop, in threads that keep Django's rules for connections."""

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

#: What a thread has to do, and where the result goes.
Call = tuple[Future[Any], Callable[[], Any]]


class RequestThreads:
    """A bounded pool for requests, whose threads give their connections back when they have nothing to do.

    Under load the connection of one call serves the next, whatever ``CONN_MAX_AGE`` says: a thousand clients that come
    back at once must not make the database open thousands of connections. That is why the threads are our own: those of
    ``ThreadPoolExecutor`` do not tell when they are idle. asgiref's ``sync_to_async`` would put all of it into one.

    Calls of different clients are served in turn, and one client has a part of the threads only: see ``fair_queue``.
    """

    def __init__(self, size: int, each: int | None = None) -> None:
        """Make a pool without threads, which are started when they are needed.

        Args:
            size: How many threads there may be.
            each: How many of them may work for one client at once; ``None`` for all.
        """
        self._size = size
        self._queue: FairQueue[Call] = FairQueue(each or size)
        #: Guards the queue.
        self._changed = threading.Condition()
        self._threads: list[threading.Thread] = []
        #: Calls that are not done; belongs to the event loop.
        self._open = 0
        self._is_closed = False

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function in the pool and return what it returns; raises ``RuntimeError`` when that is closed."""
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
        """Let calls end that were begun or wait, and then the threads; does not wait for them."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def _start_thread(self) -> None:
        # A daemon: a process may end without anybody closing this, and must not wait for calls that never come.
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
            # Not while the next call is waited for: it holds what the caller may have let go.
            del taken, future, function
        connections.close_all()

    def _next_call(self, last: Client | None) -> tuple[Client, Call] | None:
        """Return the next call in turn, or ``None`` if the pool is closed and empty; ``last`` is who was served."""
        with self._changed:
            if last is not None:
                # If another thread waits, at most the client that was served has a call that may begin now. It is ours.
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
        with take_turn():
            return function(*args, **kwargs)
    except Exception:
        connections.close_all()
        raise

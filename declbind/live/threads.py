"""Run database work beside the event loop, in threads that keep Django's rules for connections."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, ParamSpec, TypeVar

from django.db import close_old_connections, connections

from declbind.outbound.memory_databases import take_turn

P = ParamSpec("P")
T = TypeVar("T")


class RequestThreads:
    """A bounded pool for requests, whose threads give their connections back when they have nothing to do.

    Under load the connection of one call serves the next, whatever ``CONN_MAX_AGE`` says: a thousand clients that come
    back at once must not make the database open thousands of connections. That is why the threads are our own: those of
    ``ThreadPoolExecutor`` do not tell when they are idle. asgiref's ``sync_to_async`` would put all of it into one.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
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
            self._calls.put((future, partial(function, *args, **kwargs)))
            return await asyncio.wrap_future(future)
        finally:
            self._open -= 1

    def close(self) -> None:
        """Let calls end that were begun or wait, and then the threads; does not wait for them."""
        self._is_closed = True
        for _ in self._threads:
            self._calls.put(None)

    def _start_thread(self) -> None:
        # A daemon: a process may end without anybody closing this, and must not wait for calls that never come.
        thread = threading.Thread(target=self._work, name=f"declbind-request-{len(self._threads)}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _work(self) -> None:
        while (call := self._next_call()) is not None:
            future, function = call
            if not future.set_running_or_notify_cancel():
                continue
            try:
                with take_turn():
                    result = function()
            except BaseException as error:
                close_old_connections()
                future.set_exception(error)
            else:
                future.set_result(result)
            # Not while the next call is waited for: it holds what the caller may have let go.
            del call, future, function
        connections.close_all()

    def _next_call(self) -> tuple[Future[Any], Callable[[], Any]] | None:
        try:
            return self._calls.get_nowait()
        except Empty:
            close_old_connections()
            call = self._calls.get()
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

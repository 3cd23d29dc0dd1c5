"""A runner that executes coroutines inline until they first wait. A task continues those that have to wait.

A task for each frame would take a third of the cost of sending, and most frames never wait. The eager tasks of
``asyncio`` need Python 3.12 and still allocate a task for each coroutine.
"""

from __future__ import annotations

import asyncio
import contextvars

# Documented in "Extending asyncio" for third-party task implementations.
from asyncio.tasks import _enter_task, _leave_task
from collections.abc import Coroutine, Generator
from typing import TypeAlias

#: A coroutine that gives no result.
Work: TypeAlias = Coroutine[object, object, None]


class InlineRunner:
    """A runner for coroutines, with spare tasks that continue those that have to wait. Belongs to one event loop.

    The task that continues a coroutine is ``asyncio.current_task()`` from its first step to its last. Timeouts and
    cancel scopes depend on that: they cancel the task in which they were entered, and must be left in the same one.
    """

    def __init__(self) -> None:
        #: Spare tasks. More than one exists only if a coroutine runs another one inline.
        self._spares: list[_Carrier] = []
        self._is_closed = False

    def run(self, work: Work, context: contextvars.Context) -> asyncio.Task[None] | None:
        """Run a coroutine in ``context`` up to its first wait.

        Args:
            work: A coroutine that was not started.
            context: The context of all its steps. No other code may have entered it.

        Returns:
            ``None`` if the coroutine is finished, otherwise the task that continues it.

        Raises:
            BaseException: The exception that the coroutine raised before its first wait.
        """
        loop = asyncio.get_running_loop()
        carrier = self._spares.pop() if self._spares else _Carrier(loop)
        task = carrier.task
        if task.cancelling():
            carrier = _Carrier(loop)
            task = carrier.task
        running = asyncio.current_task(loop)
        if running is not None:
            _leave_task(loop, running)
        _enter_task(loop, task)
        try:
            waits_for = context.run(work.send, None)
        except StopIteration:
            self._put_back(carrier)
            return None
        except BaseException:
            self._put_back(carrier)
            raise
        finally:
            _leave_task(loop, task)
            if running is not None:
                _enter_task(loop, running)
        carrier.hand_over(work, context, waits_for)
        return task

    def close(self) -> None:
        """Cancel the spare tasks. Coroutines that tasks are continuing are not affected."""
        self._is_closed = True
        while self._spares:
            self._spares.pop().task.cancel()

    def _put_back(self, carrier: _Carrier) -> None:
        if self._is_closed:
            carrier.task.cancel()
        else:
            self._spares.append(carrier)


class _Carrier:
    """A task that waits for started coroutines and continues each to its end."""

    __slots__ = ("_handed_over", "_loop", "_rest", "task")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._rest: _Rest | None = None
        self._handed_over: asyncio.Future[None] | None = None
        # The task outlives the connection for which it is created, so it must not keep that connection's context.
        self.task: asyncio.Task[None] = loop.create_task(self._carry_on(), context=contextvars.Context())

    def hand_over(self, work: Work, context: contextvars.Context, waits_for: object) -> None:
        """Pass a started coroutine, which waits for ``waits_for``, to this task."""
        self._rest = _Rest(work, context, waits_for)
        if self._handed_over is None:
            # The task has not made its first step. If it is cancelled now, it will never make one.
            self.task.add_done_callback(lambda task: work.close())
        elif not self._handed_over.done():
            self._handed_over.set_result(None)

    async def _carry_on(self) -> None:
        interruption = None
        if self._rest is None:
            self._handed_over = self._loop.create_future()
            try:
                await self._handed_over
            except asyncio.CancelledError as error:
                interruption = error
        if self._rest is not None:
            self._rest.interruption = interruption
            await self._rest
        elif interruption is not None:
            raise interruption


class _Rest:
    """An awaitable that continues a coroutine whose first step was made outside the task."""

    __slots__ = ("_context", "_waits_for", "_work", "interruption")

    def __init__(self, work: Work, context: contextvars.Context, waits_for: object) -> None:
        self._work, self._context, self._waits_for = work, context, waits_for
        #: A cancellation that arrived before the task could wait for the coroutine's future.
        self.interruption: asyncio.CancelledError | None = None

    def __await__(self) -> Generator[object, object, None]:
        work, run, waits_for = self._work, self._context.run, self._waits_for
        error: BaseException | None = self.interruption
        # Do what ``Task.cancel()`` does: cancel the awaited future or, if it is done, interrupt the coroutine.
        if error is not None and (cancel := getattr(waits_for, "cancel", None)) is not None and cancel():
            error = None
        try:
            while True:
                if error is not None:
                    waits_for = run(work.throw, error)
                    error = None
                try:
                    answer = yield waits_for
                except BaseException as thrown:
                    error = thrown
                else:
                    waits_for = run(work.send, answer)
        except StopIteration:
            return
        finally:
            # This frame must not keep a traceback alive that refers to it.
            error = None

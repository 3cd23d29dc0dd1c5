"""The runner of the coroutines that send frames."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from declbind.live.hub import get_hub
from declbind.live.inline import InlineRunner, _Carrier
from declbind.testing import Client, override_bindings
from tests.conversations import Conversation, Server
from tests.live import NUMBERS, let_tasks_run, next_payload, store, subscribe


@contextlib.contextmanager
def open_runner() -> Iterator[InlineRunner]:
    runner = InlineRunner()
    yield runner
    runner.close()


async def test_results_and_errors_reach_a_coroutine_that_is_continued():
    """Futures, ``sleep(0)`` and cancellations behave as in any other task."""
    heard: list[str] = []

    async def work() -> None:
        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.set_exception, ValueError("first"))
        try:
            await future
        except ValueError as error:
            heard.append(str(error))
        await asyncio.sleep(0)
        heard.append("second")

    with open_runner() as runner:
        rest = runner.run(work(), contextvars.copy_context())
        assert rest is not None
        await rest
        assert heard == ["first", "second"]
        rest = runner.run(work(), contextvars.copy_context())
        assert rest is not None
        rest.cancel()
        with pytest.raises(asyncio.CancelledError):
            await rest


@pytest.mark.parametrize("steps", [0, 1, 5])
async def test_a_cancellation_reaches_the_awaited_future(steps):
    """This also holds if the task has not begun to wait for it."""
    heard: list[str] = []

    async def inner() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            heard.append("inner")

    waited_for = asyncio.create_task(inner())

    async def work() -> None:
        try:
            await waited_for
        finally:
            heard.append("work")

    with open_runner() as runner:
        assert runner.run(asyncio.sleep(0), contextvars.copy_context()) is not None
        runner._spares.append(_Carrier(asyncio.get_running_loop()))
        await let_tasks_run()
        rest = runner.run(work(), contextvars.copy_context())
        assert rest is not None
        for _ in range(steps):
            await asyncio.sleep(0)
        rest.cancel()
        await asyncio.wait({rest}, timeout=5)
        assert rest.cancelled()
        assert heard == ["inner", "work"]


async def test_a_coroutine_is_closed_if_its_task_never_starts():
    """A task that is cancelled before its first step runs nothing, so its coroutine is closed."""
    heard: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            heard.append("work")

    with open_runner() as runner:
        rest = runner.run(work(), contextvars.copy_context())
        assert rest is not None
        rest.cancel()
        await asyncio.wait({rest}, timeout=5)
        assert rest.cancelled()
        assert heard == ["work"]


async def test_a_coroutine_may_run_another_one_inline():
    """Each has its own task, and none is left over."""
    tasks: list[Any] = []

    with open_runner() as runner:

        async def inner() -> None:
            tasks.append(asyncio.current_task())

        async def outer() -> None:
            tasks.append(asyncio.current_task())
            assert runner.run(inner(), contextvars.copy_context()) is None
            tasks.append(asyncio.current_task())

        assert runner.run(outer(), contextvars.copy_context()) is None
        assert tasks[0] is tasks[2] is not tasks[1]
    await let_tasks_run()
    assert all(task.cancelled() for task in tasks)


async def test_a_cancelled_spare_task_is_not_used():
    """A coroutine may cancel its own task and not wait. The next coroutine must not be cancelled with it."""

    async def cancel_own_task() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()

    ran: list[bool] = []

    async def work() -> None:
        await asyncio.sleep(0)
        ran.append(True)

    with open_runner() as runner:
        assert runner.run(cancel_own_task(), contextvars.copy_context()) is None
        rest = runner.run(work(), contextvars.copy_context())
        assert rest is not None
        await rest
        assert ran == [True]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Eager tasks came with Python 3.12.")
async def test_eager_tasks_make_no_difference():
    """A project may set the eager task factory. A frame that waits is still sent."""
    loop = asyncio.get_running_loop()
    loop.set_task_factory(vars(asyncio)["eager_task_factory"])
    server = Server()
    async with Conversation(server.send) as conversation:
        conversation.socket.push("a")
        server.room.clear()
        for text in "bcd":
            conversation.socket.push(text)
        await let_tasks_run()
        server.room.set()
        await let_tasks_run()
        assert server.texts == list("abcd")


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Eager tasks came with Python 3.12.")
@pytest.mark.django_db(transaction=True)
async def test_a_whole_conversation_runs_on_eager_tasks():
    """The hub, requests and closes work on a loop whose tasks start before their creator continues."""
    asyncio.get_running_loop().set_task_factory(vars(asyncio)["eager_task_factory"])
    with override_bindings(NUMBERS):
        async with Client() as client:
            await store("a", 1)
            await subscribe(client, snapshot=True)
            assert (await next_payload(client))["final"]
            assert (await client.request("numbers", "create", data={"name": "a", "value": 2}))["ok"]
            assert (await next_payload(client))["data"] == {"name": "a", "value": 2}
            hub = await get_hub()
            [socket] = hub.sockets()
            socket.close(4403, "Enough.")
            assert await client.wait_closed() == 4403
        await hub.stop()


@pytest.mark.django_db(transaction=True)
async def test_a_client_that_disconnects_while_it_is_closed_causes_no_error(caplog):
    """Both sides may end a socket in the same step of the event loop."""
    with override_bindings(NUMBERS):
        client = Client()
        assert await client.connect()
        hub = await get_hub()
        [socket] = hub.sockets()
        await client._communicator.send_input({"type": "websocket.disconnect", "code": 1000})
        # Only now does the reader wake: it finds the disconnect, and the time-out comes after it.
        asyncio.get_running_loop().call_soon(socket.close, 4403)
        await client._communicator.wait(5)
    assert [record.message for record in caplog.records] == []

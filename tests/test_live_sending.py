"""Frames leave a socket at once where the server takes them, in order where it does not, and always in a real task."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

import pytest

from declbind.inbound.permissions import Identity
from declbind.live.hub import get_hub
from declbind.live.inline import InlineRunner, _Carrier
from declbind.live.socket import INTERNAL_ERROR, Socket
from declbind.testing import Client, override_bindings
from tests.live import NUMBERS, next_payload, store, subscribe

NAME: contextvars.ContextVar[str] = contextvars.ContextVar("NAME", default="nobody's")


class Server:
    """What a server's ``send`` does with frames: takes them, or waits for room first."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.room = asyncio.Event()
        self.room.set()

    async def send(self, message: Mapping[str, Any]) -> None:
        await self.room.wait()
        self.texts.append(message["text"])


class Conversation:
    """The task of one connection, as a consumer runs it, with its socket open until the end of the block."""

    def __init__(self, send: Callable[[Mapping[str, Any]], Awaitable[None]]) -> None:
        self.socket = Socket(Identity(connection_id="one"), send)
        self.runner = InlineRunner()
        self._send = send
        self._opened = asyncio.Event()
        self.task: asyncio.Task[None]

    async def _run(self) -> None:
        NAME.set("the socket's")
        self.socket.open(self._send, self.runner)
        self._opened.set()
        await self.socket.closed

    async def __aenter__(self) -> Conversation:
        self.task = asyncio.create_task(self._run())
        await self._opened.wait()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.socket.stop_sending()
        self.socket.close(1000)
        await asyncio.wait({self.task})
        self.runner.close()


async def settle() -> None:
    """Let every task go on as far as it can."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_frame_leaves_at_once_where_there_is_room():
    """No task, no turn of the event loop lies between a change and its frame."""
    server = Server()
    async with Conversation(server.send) as conversation:
        conversation.socket.push("a")
        tasks = asyncio.all_tasks()
        conversation.socket.push("b")
        assert server.texts == ["a", "b"]
        assert asyncio.all_tasks() == tasks


async def test_nothing_leaves_before_the_handshake_is_over():
    """What is queued while a socket is being accepted is sent first of all when it is open."""
    server = Server()
    socket = Socket(Identity(connection_id="one"), server.send)
    socket.push("a")
    assert server.texts == []
    runner = InlineRunner()
    socket.open(server.send, runner)
    assert server.texts == ["a"]
    socket.close(1000)
    runner.close()


async def test_no_frame_overtakes_one_that_waits_for_room():
    """While a frame is half way, later ones queue behind it and leave in their order."""
    server = Server()
    async with Conversation(server.send) as conversation:
        server.room.clear()
        for text in "abc":
            conversation.socket.push(text)
        await settle()
        assert server.texts == []
        server.room.set()
        conversation.socket.push("d")
        await settle()
        conversation.socket.push("e")
        assert server.texts == list("abcde")


async def test_nothing_more_is_sent_after_the_end():
    """A socket that is closed while a frame waits for room sends none of what was behind it."""
    server = Server()
    async with Conversation(server.send) as conversation:
        server.room.clear()
        for text in "abc":
            conversation.socket.push(text)
        conversation.socket.close(4403)
        conversation.socket.push("d")
        server.room.set()
        await settle()
        assert server.texts in ([], ["a"])


async def test_a_server_that_takes_no_frame_ends_its_socket_only():
    """Who sends to many must not see the fault of one."""

    async def refuse(message: Mapping[str, Any]) -> None:
        raise OSError("the client has gone")

    async def refuse_later(message: Mapping[str, Any]) -> None:
        await asyncio.sleep(0)
        raise OSError("the client has gone")

    for send in (refuse, refuse_later):
        async with Conversation(send) as conversation:
            conversation.socket.push("a")
            await settle()
            assert conversation.socket.closed.result()[0] == INTERNAL_ERROR


class Middleware:
    """An ASGI middleware with a time-out around what the server does with a frame."""

    def __init__(self, send: Callable[[Mapping[str, Any]], Awaitable[None]], seconds: float = 5.0) -> None:
        self._send, self._seconds = send, seconds
        self.names: list[str] = []
        self.tasks: list[Any] = []
        self.timed_out = asyncio.Event()

    async def send(self, message: Mapping[str, Any]) -> None:
        self._look()
        try:
            async with asyncio.timeout(self._seconds):
                await self._send(message)
        except TimeoutError:
            self.timed_out.set()
        self._look()

    def _look(self) -> None:
        self.names.append(NAME.get())
        self.tasks.append(asyncio.current_task())


async def test_a_frame_is_sent_in_one_task_and_one_context():
    """A frame that has to wait ends in the task in which it began, which is neither the sender's nor the reader's."""
    server = Server()
    server.room.clear()
    middleware = Middleware(server.send)
    async with Conversation(middleware.send) as conversation:
        conversation.socket.push("a")
        await settle()
        server.room.set()
        await settle()
        assert server.texts == ["a"]
        assert middleware.names == ["the socket's", "the socket's"]
        assert middleware.tasks[0] is middleware.tasks[1]
        assert middleware.tasks[0] not in (None, asyncio.current_task(), conversation.task)


async def test_a_timeout_of_a_middleware_ends_the_wait_of_its_frame_only():
    """The middleware sees its own time-out, and the socket goes on with the next frame."""
    server = Server()
    server.room.clear()
    middleware = Middleware(server.send, seconds=0.01)
    async with Conversation(middleware.send) as conversation:
        conversation.socket.push("a")
        async with asyncio.timeout(5):
            await middleware.timed_out.wait()
        server.room.set()
        await settle()
        conversation.socket.push("b")
        await settle()
        assert server.texts == ["b"]
        assert not conversation.socket.closed.done()
        assert not conversation.task.done()


async def test_a_first_step_in_the_senders_task_is_noticed(monkeypatch):
    """Negative control: if the first step does not change the task, the time-out ends the task that sent."""
    monkeypatch.setattr("declbind.live.inline._leave_task", lambda loop, task: None)
    monkeypatch.setattr("declbind.live.inline._enter_task", lambda loop, task: None)
    server = Server()
    server.room.clear()
    middleware = Middleware(server.send, seconds=0.01)

    async def send_to(socket: Socket) -> None:
        socket.push("a")
        await asyncio.sleep(5)

    async with Conversation(middleware.send) as conversation:
        sender = asyncio.create_task(send_to(conversation.socket))
        await asyncio.wait({sender}, timeout=5)
        assert sender.cancelled()


async def test_a_send_that_is_cancelled_from_outside_ends_its_socket():
    """A frame is lost when its task is cancelled, so the client must come back for it."""
    server = Server()
    server.room.clear()
    middleware = Middleware(server.send)
    async with Conversation(middleware.send) as conversation:
        conversation.socket.push("a")
        middleware.tasks[0].cancel()
        await settle()
        assert conversation.socket.closed.result()[0] == INTERNAL_ERROR


# The runner ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def open_runner() -> Iterator[InlineRunner]:
    runner = InlineRunner()
    yield runner
    runner.close()


async def test_results_and_faults_reach_a_coroutine_that_is_carried_on():
    """Futures, ``sleep(0)`` and cancellations look to it as they do to the coroutine of any task."""
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
async def test_a_cancellation_reaches_what_a_coroutine_waits_for(steps):
    """It reaches it even before the task begins to wait for it."""
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
        await settle()
        rest = runner.run(work(), contextvars.copy_context())
        assert rest is not None
        for _ in range(steps):
            await asyncio.sleep(0)
        rest.cancel()
        await asyncio.wait({rest}, timeout=5)
        assert rest.cancelled()
        assert heard == ["inner", "work"]


async def test_a_coroutine_is_closed_if_its_task_never_starts():
    """A task that is cancelled before its first step runs nothing, so what it was handed is closed."""
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
    await settle()
    assert all(task.cancelled() for task in tasks)


async def test_a_spare_task_that_was_cancelled_is_not_used():
    """A coroutine that cancels its own task and does not wait must not take the next one with it."""

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
async def test_eager_tasks_change_nothing():
    """A project may set the eager task factory; a frame that waits is carried on all the same."""
    loop = asyncio.get_running_loop()
    loop.set_task_factory(vars(asyncio)["eager_task_factory"])
    server = Server()
    async with Conversation(server.send) as conversation:
        conversation.socket.push("a")
        server.room.clear()
        for text in "bcd":
            conversation.socket.push(text)
        await settle()
        server.room.set()
        await settle()
        assert server.texts == list("abcd")


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Eager tasks came with Python 3.12.")
@pytest.mark.django_db(transaction=True)
async def test_a_whole_conversation_runs_on_eager_tasks():
    """The hub, its requests and its closes, on a loop whose tasks begin before their creator goes on."""
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
async def test_a_client_that_leaves_while_it_is_closed_causes_no_fault(caplog):
    """Both ends of a socket may come in the same turn of the event loop."""
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

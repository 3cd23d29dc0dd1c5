"""How frames leave a socket: at once where the server takes them, in order where not, and in the socket's own name."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest

from declbind.inbound.permissions import Identity
from declbind.live.socket import INTERNAL_ERROR, Socket, _go_on

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
        self._send = send
        self._opened = asyncio.Event()
        self.task: asyncio.Task[None]

    async def _run(self) -> None:
        NAME.set("the socket's")
        self.socket.open(self._send)
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


async def settle() -> None:
    """Let every task go on as far as it can."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_frame_leaves_at_once_where_there_is_room():
    """No task, no turn of the event loop lies between a change and its frame."""
    server = Server()
    async with Conversation(server.send) as conversation:
        tasks = asyncio.all_tasks()
        conversation.socket.push("a")
        conversation.socket.push("b")
        assert server.texts == ["a", "b"]
        assert asyncio.all_tasks() == tasks


async def test_nothing_leaves_before_the_handshake_is_over():
    """What is queued while a socket is being accepted is sent first of all when it is open."""
    server = Server()
    socket = Socket(Identity(connection_id="one"), server.send)
    socket.push("a")
    assert server.texts == []
    socket.open(server.send)
    assert server.texts == ["a"]
    socket.close(1000)


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
    """What may lie between us and the server: it has a time-out, and wants to know in whose name it runs."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.names: list[str] = []
        self.tasks: list[Any] = []

    async def send(self, message: Mapping[str, Any]) -> None:
        self.names.append(NAME.get())
        self.tasks.append(asyncio.current_task())
        async with asyncio.timeout(self.seconds):
            await asyncio.Event().wait()


async def test_what_lies_before_the_server_runs_in_the_name_of_the_socket():
    """Its context is the socket's, and a time-out of its ends the socket's task, never that of who sent."""
    middleware = Middleware(seconds=0.01)
    async with Conversation(middleware.send) as conversation:
        conversation.socket.push("a")
        assert asyncio.current_task() is not conversation.task
        assert middleware.names == ["the socket's"]
        assert middleware.tasks == [conversation.task]
        await asyncio.wait({conversation.task}, timeout=5)
        assert conversation.task.cancelled()


async def test_a_first_step_in_the_senders_name_is_noticed(monkeypatch):
    """Negative control: without the change of names the time-out ends the task that sent."""

    def first_step_as_it_comes(work: Any, owner: Any) -> Any:
        return work.send(None)

    monkeypatch.setattr("declbind.live.socket._first_step", first_step_as_it_comes)
    middleware = Middleware(seconds=0.01)

    async def send_to(socket: Socket) -> None:
        socket.push("a")
        await asyncio.sleep(5)

    async with Conversation(middleware.send) as conversation:
        sender = asyncio.create_task(send_to(conversation.socket))
        await asyncio.wait({sender}, timeout=5)
        assert sender.cancelled()
        assert middleware.names == ["nobody's"]


async def test_the_rest_of_a_coroutine_is_told_what_happens():
    """Results and faults reach a coroutine that was begun without a task as they reach any other."""
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

    begun = work()
    await asyncio.create_task(_go_on(begun, begun.send(None)))
    assert heard == ["first", "second"]
    begun = work()
    rest = asyncio.create_task(_go_on(begun, begun.send(None)))
    rest.cancel()
    with pytest.raises(asyncio.CancelledError):
        await rest

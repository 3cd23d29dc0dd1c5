"""The sending of frames: at once if the server accepts them, otherwise in order, and always in a real task."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from declbind.inbound.permissions import Identity
from declbind.live.inline import InlineRunner
from declbind.live.socket import INTERNAL_ERROR, Socket
from tests.conversations import NAME, Conversation, Server
from tests.live import let_tasks_run


async def test_a_frame_is_sent_at_once_if_the_server_accepts_it():
    """Neither a task nor a step of the event loop lies between a change and its frame."""
    server = Server()
    async with Conversation(server.send) as conversation:
        conversation.socket.push("a")
        tasks = asyncio.all_tasks()
        conversation.socket.push("b")
        assert server.texts == ["a", "b"]
        assert asyncio.all_tasks() == tasks


async def test_nothing_is_sent_before_the_end_of_the_handshake():
    """Frames that are queued during the handshake are sent first when the socket is open."""
    server = Server()
    socket = Socket(Identity(connection_id="one"), server.send)
    socket.push("a")
    assert server.texts == []
    runner = InlineRunner()
    socket.open(server.send, runner)
    assert server.texts == ["a"]
    socket.close(1000)
    runner.close()


async def test_frames_behind_a_waiting_one_keep_their_order():
    """Later frames are queued until the waiting frame is sent."""
    server = Server()
    async with Conversation(server.send) as conversation:
        server.room.clear()
        for text in "abc":
            conversation.socket.push(text)
        await let_tasks_run()
        assert server.texts == []
        server.room.set()
        conversation.socket.push("d")
        await let_tasks_run()
        conversation.socket.push("e")
        assert server.texts == list("abcde")


async def test_nothing_is_sent_after_the_close():
    """If a socket is closed while a frame waits, the frames behind it are not sent."""
    server = Server()
    async with Conversation(server.send) as conversation:
        server.room.clear()
        for text in "abc":
            conversation.socket.push(text)
        conversation.socket.close(4403)
        conversation.socket.push("d")
        server.room.set()
        await let_tasks_run()
        assert server.texts in ([], ["a"])


async def test_an_error_of_the_server_ends_only_its_own_socket():
    """Code that sends to many sockets must not get the error of one of them."""

    async def refuse(message: Mapping[str, Any]) -> None:
        raise OSError("the client has gone")

    async def refuse_later(message: Mapping[str, Any]) -> None:
        await asyncio.sleep(0)
        raise OSError("the client has gone")

    for send in (refuse, refuse_later):
        async with Conversation(send) as conversation:
            conversation.socket.push("a")
            await let_tasks_run()
            assert conversation.socket.closed.result()[0] == INTERNAL_ERROR


class Middleware:
    """An ASGI middleware with a timeout around the server's ``send``."""

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
        await let_tasks_run()
        server.room.set()
        await let_tasks_run()
        assert server.texts == ["a"]
        assert middleware.names == ["the socket's", "the socket's"]
        assert middleware.tasks[0] is middleware.tasks[1]
        assert middleware.tasks[0] not in (None, asyncio.current_task(), conversation.task)


async def test_a_timeout_of_a_middleware_ends_only_the_wait_of_its_frame():
    """The middleware sees its own timeout, and the socket continues with the next frame."""
    server = Server()
    server.room.clear()
    middleware = Middleware(server.send, seconds=0.01)
    async with Conversation(middleware.send) as conversation:
        conversation.socket.push("a")
        async with asyncio.timeout(5):
            await middleware.timed_out.wait()
        server.room.set()
        await let_tasks_run()
        conversation.socket.push("b")
        await let_tasks_run()
        assert server.texts == ["b"]
        assert not conversation.socket.closed.done()
        assert not conversation.task.done()


async def test_a_first_step_in_the_senders_task_is_detected(monkeypatch):
    """Negative control: if the first step does not change the task, the timeout ends the task that sent."""
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
    """The frame of a cancelled task is lost, so the client must reconnect."""
    server = Server()
    server.room.clear()
    middleware = Middleware(server.send)
    async with Conversation(middleware.send) as conversation:
        conversation.socket.push("a")
        middleware.tasks[0].cancel()
        await let_tasks_run()
        assert conversation.socket.closed.result()[0] == INTERNAL_ERROR

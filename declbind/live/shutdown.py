"""The handling of SIGTERM before the server handles it: sockets are drained first, and then the server ends.

No ASGI server notifies its application of its end in time. At the ``lifespan`` shutdown, all sockets have been closed.
Therefore SIGTERM is handled here, in the main thread, while a hub runs there. After draining it is passed on to the
previous handler, so the server behaves as usual, only ``DRAIN_SECONDS`` later. SIGINT, which Ctrl-C sends, is not
handled.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import threading
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from types import FrameType
from typing import NamedTuple, Protocol

from declbind.asgi_types import Send
from declbind.conf import settings

SIGNAL = signal.SIGTERM
#: Event loops whose Python signal handler does nothing, because ``add_signal_handler`` uses the wakeup pipe instead.
LOOPS = frozenset({"asyncio", "uvloop", "rloop", "winloop"})

_interception: Interception | None = None


class SocketDrain(Protocol):
    """The interface of the object that closes a hub's sockets."""

    def start(self, seconds: float) -> asyncio.Task[None]:
        """Start to close all sockets, spread evenly over ``seconds``."""

    def hurry(self) -> None:
        """Close all remaining sockets at once."""


class EndingHub(Protocol):
    """A hub that is drained before the process ends."""

    loop: asyncio.AbstractEventLoop

    @property
    def drain(self) -> SocketDrain:
        """The object that closes its sockets."""


def watch(loop: asyncio.AbstractEventLoop, running_hubs: Callable[[], Sequence[EndingHub]]) -> None:
    """Drain the hubs of this process when it receives SIGTERM.

    Does nothing if ``DRAIN_SECONDS`` is 0, or in a thread that cannot handle signals, as under ``runserver``.

    Args:
        loop: The running loop. The signal is handled until ``unwatch`` is called with it.
        running_hubs: Returns the hubs to drain.
    """
    global _interception
    if settings.DRAIN_SECONDS <= 0 or threading.current_thread() is not threading.main_thread():
        return
    if _interception is not None:
        if _interception.is_in_force():
            return
        _interception.end()
    # ``None`` is a handler that was not set from Python. No signal can be passed on to it.
    can_hand_on = signal.getsignal(SIGNAL) not in (signal.SIG_IGN, None)
    _interception = Interception(loop, running_hubs) if can_hand_on else None


def unwatch(loop: asyncio.AbstractEventLoop) -> None:
    """Restore the previous signal handler, if the signal is handled for this loop."""
    global _interception
    if (
        _interception is not None
        and _interception.loop is loop
        and threading.current_thread() is threading.main_thread()
    ):
        _interception.end()
        _interception = None


class ServerEnd(NamedTuple):
    """The announced end of a server: how to wait for its start, and how many seconds sockets then have."""

    wait: Callable[[], Awaitable[object]]
    seconds: float


def find_server_end(send: Send) -> ServerEnd | None:
    """Return the end of a server whose workers get no signal, or ``None`` for other servers.

    hypercorn starts its workers as processes and ends them by setting an event. The event is found through ``send``,
    which is a method of the connection.
    """
    stream = getattr(send, "__self__", None)
    if not type(stream).__module__.startswith("hypercorn."):
        return None
    wait = getattr(getattr(getattr(stream, "context", None), "terminated", None), "wait", None)
    seconds = getattr(getattr(stream, "config", None), "graceful_timeout", None)
    # Not the whole timeout, because hypercorn then drops connections without a close frame.
    return ServerEnd(wait, 0.7 * seconds) if wait is not None and isinstance(seconds, int | float) else None


class Interception:
    """A handler of SIGTERM that runs before the previous handler. Belongs to the main thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, running_hubs: Callable[[], Sequence[EndingHub]]) -> None:
        self.loop = loop
        self._running_hubs = running_hubs
        self._pid = os.getpid()
        #: The hubs that are being drained; ``None`` before the signal comes.
        self._draining: Sequence[EndingHub] | None = None
        self._is_over = False
        self._previous = signal.getsignal(SIGNAL)
        module = getattr(self._previous, "__module__", None) or ""
        self._gate = WakeupGate(loop, self._is_holding) if module.partition(".")[0] in LOOPS else None
        signal.signal(SIGNAL, self._take)

    def is_in_force(self) -> bool:
        """Return whether this handler will be called at the next signal, and can handle it."""
        is_ours = self._pid == os.getpid() and not self.loop.is_closed()
        return is_ours and not self._is_over and signal.getsignal(SIGNAL) == self._take

    def end(self) -> None:
        """Restore the previous handler. If a signal was received, pass it on."""
        if self._draining is not None:
            self._hand_on()
        elif not self._is_over:
            self._give_back()

    def _is_holding(self) -> bool:
        return self._draining is not None and not self._is_over

    def _take(self, number: int, frame: FrameType | None) -> None:
        # A forked child has this handler too, but not the loop. Another handler may call this one at any time.
        if self._is_over or self._pid != os.getpid() or self.loop.is_closed():
            self._call_previous()
        elif self._draining is None:
            self._draining = self._running_hubs()
            self.loop.call_soon_threadsafe(self._begin)
        else:
            # The second signal: stop waiting.
            for hub in self._draining:
                _call(hub.loop, hub.drain.hurry)

    def _begin(self) -> None:
        hubs = self._draining or []
        left = set(hubs)

        def drained(hub: EndingHub) -> None:
            left.discard(hub)
            if not left:
                self._hand_on()

        for hub in hubs:
            if not _call(hub.loop, _drain, hub, partial(_call, self.loop, drained, hub)):
                drained(hub)
        if not hubs:
            self._hand_on()

    def _hand_on(self) -> None:
        if not self._is_over:
            self._give_back()
            self._call_previous()

    def _give_back(self) -> None:
        self._is_over = True
        if self._pid != os.getpid():
            return
        if signal.getsignal(SIGNAL) == self._take:
            signal.signal(SIGNAL, self._previous)
        if self._gate is not None:
            self._gate.close()

    def _call_previous(self) -> None:
        if callable(self._previous):
            self._previous(SIGNAL, None)
        else:
            signal.signal(SIGNAL, self._previous)
            signal.raise_signal(SIGNAL)


class WakeupGate:
    """A pipe in front of the event loop's own wakeup pipe for signals, which holds SIGTERM back and passes others on.

    A function set by ``loop.add_signal_handler`` is called when the loop reads the signal's number from its pipe,
    regardless of Python's handler. There is no way to get that function, so the number is held back instead.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, is_holding: Callable[[], bool]) -> None:
        self._loop, self._is_holding = loop, is_holding
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._held = b""
        self._beyond = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        loop.add_reader(self._reader.fileno(), self._read)

    def _read(self) -> None:
        with contextlib.suppress(BlockingIOError):
            numbers = self._reader.recv(4096)
            # The signal handler runs before the loop reads the pipe. If another handler replaced ours, nothing is held
            # back.
            held = bytes(number for number in numbers if number == SIGNAL) if self._is_holding() else b""
            self._held += held
            self._pass_on(bytes(number for number in numbers if not held or number != SIGNAL))

    def _pass_on(self, numbers: bytes) -> None:
        if numbers and self._beyond != -1:
            with contextlib.suppress(OSError):
                os.write(self._beyond, numbers)

    def close(self) -> None:
        """Pass on the signals that were held back, and reconnect the event loop's own pipe."""
        current = signal.set_wakeup_fd(self._beyond)
        if current != self._writer.fileno():
            # Another pipe has replaced this one, most likely the loop's own.
            signal.set_wakeup_fd(current)
        if not self._loop.is_closed():
            self._read()
            self._loop.remove_reader(self._reader.fileno())
            self._pass_on(self._held)
        self._held = b""
        self._reader.close()
        self._writer.close()


def _call(loop: asyncio.AbstractEventLoop, function: Callable[..., object], *args: object) -> bool:
    """Call a function in an event loop; return False if the loop has been closed."""
    try:
        loop.call_soon_threadsafe(function, *args)
    except RuntimeError:
        return False
    return True


def _drain(hub: EndingHub, done: Callable[[], object]) -> None:
    """Start to drain a hub in its loop, and call ``done`` when that ends, even with an error."""
    hub.drain.start(settings.DRAIN_SECONDS).add_done_callback(lambda task: done())

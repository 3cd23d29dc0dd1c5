"""Fair scheduling of clients, so that a client with many requests does not delay the others.

A client is a user, or the address of anonymous visitors. Clients take turns, and so do the sockets of one client,
because behind a proxy that is not in ``TRUSTED_PROXIES`` many visitors have the same address.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Iterator
from contextvars import ContextVar
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")


class Client(NamedTuple):
    """The client that a call is made for: an owner (a user or an address), and one of the owner's sockets."""

    owner: str
    socket: str = ""


#: The client of calls that no client has requested.
NOBODY = Client("")
_current: ContextVar[Client] = ContextVar("declbind_client", default=NOBODY)


def client_of(user_pk: str | None, address: str, socket: str) -> Client:
    """Return the client with these attributes. A socket without user and address is a client of its own."""
    if user_pk is not None:
        return Client(f"user {user_pk}", socket)
    return Client(f"address {address}" if address else f"socket {socket}", socket)


def current_client() -> Client:
    """Return the client that the running task works for."""
    return _current.get()


@contextlib.contextmanager
def working_for(client: Client) -> Iterator[None]:
    """Schedule the calls of the running task, and of tasks that it starts, as those of a client."""
    token = _current.set(client)
    try:
        yield
    finally:
        _current.reset(token)


class FairQueue(Generic[T]):
    """A queue that returns items in turn by owner, and within an owner in turn by socket.

    The items of one socket stay in order. At most ``each`` items of one owner are in progress at once. The cost of each
    method does not depend on the number of items. Not thread-safe.
    """

    def __init__(self, each: int) -> None:
        self._each = each
        #: Waiting items by owner and socket. The first one is the next in turn.
        self._turns: OrderedDict[str, OrderedDict[str, deque[T]]] = OrderedDict()
        #: The owners with the maximum number of items in progress.
        self._resting: dict[str, OrderedDict[str, deque[T]]] = {}
        self._under_way: Counter[str] = Counter()

    @property
    def has_waiting(self) -> bool:
        """Return whether any items wait, including items of owners that may not start another one now."""
        return bool(self._turns or self._resting)

    def put(self, client: Client, item: T) -> None:
        """Add an item behind the others of its socket. A new owner's turn comes after all present ones."""
        sockets = self._resting.get(client.owner) or self._turns.get(client.owner)
        if sockets is None:
            sockets = OrderedDict()
            (self._resting if self._is_full(client.owner) else self._turns)[client.owner] = sockets
        sockets.setdefault(client.socket, deque()).append(item)

    def take(self) -> tuple[Client, T] | None:
        """Remove and return the next item in turn, or ``None`` if none may start now."""
        if not self._turns:
            return None
        owner, sockets = self._turns.popitem(last=False)
        socket, items = sockets.popitem(last=False)
        item = items.popleft()
        if items:
            sockets[socket] = items
        self._under_way[owner] += 1
        if sockets:
            (self._resting if self._is_full(owner) else self._turns)[owner] = sockets
        return Client(owner, socket), item

    def _is_full(self, owner: str) -> bool:
        # The number of calls that no client has requested is not limited.
        return owner != NOBODY.owner and self._under_way[owner] >= self._each

    def done(self, client: Client) -> None:
        """Record that an item of a client is no longer in progress."""
        self._under_way[client.owner] -= 1
        if not self._under_way[client.owner]:
            del self._under_way[client.owner]
        sockets = self._resting.pop(client.owner, None)
        if sockets is not None:
            self._turns[client.owner] = sockets


class FairGate:
    """A limited number of places for one kind of work, which clients get in turn. Belongs to the event loop.

    Args:
        places: The number of places that may be taken at once.
        each: The number of places that one owner may take.
    """

    def __init__(self, places: int, each: int = 1) -> None:
        self._free = places
        self._queue: FairQueue[asyncio.Future[Client]] = FairQueue(each)

    def ask(self, client: Client, place: asyncio.Future[Client]) -> None:
        """Queue a future for a place on behalf of a client.

        A future may be queued for several clients. Its result is the client whose turn comes first. Pass the future to
        ``wait``.
        """
        self._queue.put(client, place)
        self._give()

    async def wait(self, place: asyncio.Future[Client]) -> Client:
        """Wait for the place that a future was queued for. Return the client that got it."""
        try:
            return await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self.leave(place.result())
            raise

    def leave(self, client: Client) -> None:
        """Release the place of a client."""
        self._free += 1
        self._queue.done(client)
        self._give()

    @contextlib.asynccontextmanager
    async def hold(self) -> AsyncIterator[None]:
        """Hold a place for the client that the running task works for."""
        place: asyncio.Future[Client] = asyncio.get_running_loop().create_future()
        self.ask(current_client(), place)
        client = await self.wait(place)
        try:
            yield
        finally:
            self.leave(client)

    def _give(self) -> None:
        while self._free and (found := self._queue.take()) is not None:
            client, place = found
            if place.done():
                # Its task was cancelled, or it already has a place through another client.
                self._queue.done(client)
                continue
            self._free -= 1
            place.set_result(client)

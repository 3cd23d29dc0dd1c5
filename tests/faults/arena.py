"""A site under load: web processes, relays, writers, clients, and the ledger that the outcome is checked against."""

from __future__ import annotations

import contextlib
import itertools
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

import psutil  # type: ignore[import-untyped]

from tests.servers import DjangoServer, RedisServer, Server

from . import crashes, sabotage
from .checker import Verdict, check
from .client import REPLY_SECONDS, Client, Crowd, Feed
from .databases import Databases, environment, run_module
from .editor import Editor
from .history import History, LedgerError
from .ledger import Ledger, LedgerReader
from .mutations import Count, check_mutations
from .observations import Record, Rows
from .proxy import Proxy
from .writer import ROOMS, SENTINELS

#: The longest time to wait for anything.
PATIENCE = 60.0


def wait_until(is_so: Callable[[], object], what: str, seconds: float = PATIENCE) -> None:
    """Poll until a condition is true.

    Raises:
        TimeoutError: The condition did not become true; the message says what was awaited.
    """
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:.0f} s for this: {what}")
        time.sleep(0.02)  # between two polls, as in `Server.start`


class Program(Server):
    """A Python module as a program; `environment` and data are the caller's."""

    name = "program"

    def __init__(self, module: str, arguments: Sequence[str], env: Mapping[str, str | None], ready: str = "") -> None:
        super().__init__()
        self.module, self.arguments, self.env, self.ready = module, list(arguments), dict(env), ready

    def command(self) -> Sequence[str]:
        return [sys.executable, "-m", self.module, *self.arguments]

    def environment(self) -> Mapping[str, str]:
        merged = {**super().environment(), "PYTHONUNBUFFERED": "1", **self.env}
        return {key: value for key, value in merged.items() if value is not None}

    def is_ready(self) -> bool:
        return self.ready in self.log_text()


class Arena:
    """One site from its first process to the verdict. Methods belong to the main thread.

    ``events`` is the minimum number of committed writes in a run, ``rate`` the writes of each writer per second. Of
    the web processes ``daphnes`` run under daphne. Of the clients every third negotiates batches of frames.
    ``editors`` more write through their sockets, and try another process after ``patience`` seconds. ``kinds`` are
    the modules of the writers, in rotation. ``settings`` is the setting ``DECLBIND``. In a ``plain`` arena there are
    no triggers, and writers use ``save`` alone.
    """

    def __init__(
        self,
        databases: Databases,
        *,
        seed: int,
        events: int = 1_000,
        rate: float = 200.0,
        webs: int = 2,
        relays: int = 0,
        writers: int = 2,
        clients: int = 5,
        editors: int = 0,
        patience: float = REPLY_SECONDS,
        daphnes: int = 0,
        kinds: Sequence[str] = ("writer",),
        settings: Mapping[str, object] | None = None,
        trim_seconds: float | None = None,
        redis: RedisServer | None = None,
        server: Server | None = None,
        proxied: bool = False,
        plain: bool = False,
    ) -> None:
        self.databases, self.seed, self.events, self.rate = databases, seed, events, rate
        self.redis, self.server, self.proxied = redis, server, proxied
        self.plain = plain
        self.chance = random.Random(seed)
        self.settings, self.trim_seconds = settings or {}, trim_seconds
        self.deaths = 0
        self.seconds = 0.0
        self._sizes = webs, relays, writers, clients, editors
        self._patience = patience
        self._daphnes, self._kinds = daphnes, itertools.cycle(kinds)
        self._writer_numbers = itertools.count(1)
        self._stack = contextlib.ExitStack()
        self._started = time.monotonic()

    def __enter__(self) -> Self:
        with self._stack as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="declbind-ledgers-")))
            self.url = self.databases.make()
            if self.plain:
                # Triggers would report what the hooks report, so that broken hooks would not be noticed.
                run_module("django", self.url, "declbind", "triggers", "--remove")
            self.initial = self.databases.rows(self.url)
            self._counted_from = self.databases.counter(self.url)
            self.ledger = LedgerReader(folder)
            layer = self.redis.url if self.redis is not None else None
            self.env: dict[str, str | None] = {
                **environment(self.url),
                "CHANNEL_LAYER_URL": layer,
                "FAULTS_DECLBIND": json.dumps(self.settings),
                "FAULTS_TRIM_SECONDS": None if self.trim_seconds is None else str(self.trim_seconds),
            }
            webs, relays, writers, clients, editors = self._sizes
            self.webs: list[Server] = [
                self._web(stack, "daphne" if number >= webs - self._daphnes else "uvicorn") for number in range(webs)
            ]
            self.relays: list[Server] = [self.make_relay() for _ in range(relays)]
            self.writers: list[Server] = [self.make_writer() for _ in range(writers)]
            self.crowd = stack.enter_context(Crowd())
            self.proxies: list[Proxy] = []
            if self.proxied:
                self.proxies = [Proxy(web.port) for web in self.webs]
                for proxy in self.proxies:
                    self.crowd.call(proxy.start())
                    stack.callback(self._close_proxy, proxy)
            self._clients, self._editors = clients, editors
            self.editors: list[Editor] = []
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    # --- the parts -----------------------------------------------------------------------------------------------

    def _web(self, stack: contextlib.ExitStack, program: str) -> DjangoServer:
        server = DjangoServer("tests.faults.asgi:application", env=self.env, program=program)
        return stack.enter_context(contextlib.closing(server))

    def _program(self, module: str, arguments: Sequence[str], ready: str = "") -> Program:
        return self._stack.enter_context(contextlib.closing(Program(module, arguments, self.env, ready)))

    def _close_proxy(self, proxy: Proxy) -> None:
        self.crowd.call(proxy.close())

    def make_relay(self) -> Program:
        """Return a `manage.py declbind relay` that is not started yet."""
        return self._program("django", ["declbind", "relay"], "runs;")

    def make_writer(self, *options: str) -> Program:
        """Return a writer that is not started yet."""
        name = f"w{next(self._writer_numbers)}"
        arguments = ["--name", name, "--ledger", str(self.ledger.folder / f"{name}.jsonl"), "--seed", str(self.seed)]
        if self.plain:
            arguments.append("--plain")
        kind = "writer" if options else next(self._kinds)
        return self._program(f"tests.faults.{kind}", [*arguments, "--rate", str(self.rate), *options])

    def start(self) -> None:
        """Start servers and clients, wait until all of these are live, and start the writers."""
        for server in [*self.webs, *self.relays]:
            server.start()
        for _ in range(self._clients):
            self.add_client()
        self.wait_for_feeds(lambda feed: feed.is_live, "every client has its first snapshot")
        for writer in self.writers:
            writer.start()

    def add_client(self) -> None:
        """Add one more client."""
        number = len(self.crowd.clients)
        rooms: list[int | None] = [number % ROOMS, (number + 1) % ROOMS] if number % 3 else [None, number % ROOMS]
        self.crowd.add(Client(f"client {number}", self.addresses(number), rooms, joined=number % 3 == 2))

    def add_editors(self) -> None:
        """Add the clients that write."""
        for number in range(self._editors):
            self._add_editor(number)

    def _add_editor(self, number: int) -> None:
        ledger = Ledger(str(self.ledger.folder / f"e{number}.jsonl"))
        self._stack.callback(ledger.close)
        editor = Editor(number, self.addresses(number), ledger, self.seed, self._patience, joined=number % 3 == 2)
        self.editors.append(editor)
        self.crowd.add(editor)

    def addresses(self, number: int) -> list[str]:
        """Return the addresses of the site for a client, in the order in which it tries them."""
        ports = [proxy.port for proxy in self.proxies] or [web.port for web in self.webs]
        addresses = [f"ws://127.0.0.1:{port}/ws/bindings/" for port in ports]
        first = number % len(addresses)
        return addresses[first:] + addresses[:first]

    def crash(self, server: Server, place: str, count: int, signal: str = "SIGKILL") -> None:
        """Make a server die, after its next start, when it passes a named place for the n-th time.

        With ``SIGSTOP`` it is frozen there.
        """
        server.env[crashes.VARIABLE] = f"{place}:{count}:{signal}"  # type: ignore[attr-defined]

    def disarm(self, server: Server) -> None:
        """Remove the crash point of a server at its next start."""
        server.env.pop(crashes.VARIABLE, None)  # type: ignore[attr-defined]

    def sabotage(self, servers: Sequence[Server], name: str) -> None:
        """Make servers run a broken variant after their next start."""
        for server in servers:
            server.env[sabotage.VARIABLE] = name  # type: ignore[attr-defined]

    def stop_writers(self) -> None:
        """Let each writer finish its current work."""
        for writer in self.writers:
            writer.stop()

    def stop_editors(self) -> None:
        """Wait until each editor has its last answer."""
        for editor in self.editors:
            self.crowd.look(editor.stop)
        wait_until(lambda: self.crowd.look(lambda: all(e.is_idle for e in self.editors)), "editors are answered")

    # --- waiting --------------------------------------------------------------------------------------------------

    def wait_for_feeds(self, is_so: Callable[[Feed], object], what: str, seconds: float = PATIENCE) -> None:
        """Wait until something is true of every feed."""
        wait_until(lambda: self.crowd.look(lambda: all(map(is_so, self.crowd.feeds()))), what, seconds)

    def wait_for_rows(self, seconds: float = PATIENCE) -> None:
        """Wait until every client holds what the database holds; nobody may be writing."""
        rows = self.databases.rows(self.url)
        self.wait_for_feeds(lambda feed: feed.is_live and feed.rows == seen_by(feed, rows), "all rows arrived", seconds)

    def wait_for_writes(self, count: int) -> None:
        """Wait until this many more writes are committed."""
        target = self.ledger.read() + count
        self._wait(lambda: self.ledger.read() >= target, f"{count} more writes are committed")

    def wait_for_death(self, servers: Sequence[Server]) -> Server:
        """Wait until one of the servers has died, and return it."""
        self._wait(lambda: any(not server.is_running for server in servers), "a crash point is reached")
        self.deaths += 1
        return next(server for server in servers if not server.is_running)

    def wait_for_freeze(self, servers: Sequence[Server]) -> Server:
        """Wait until one of the servers is frozen, and return it."""
        self._wait(lambda: any(map(is_frozen, servers)), "a freezing point is reached")
        return next(filter(is_frozen, servers))

    def wait_for_news(self, clients: Sequence[Client]) -> None:
        """Wait until each feed of these clients has received another event."""
        feeds = [feed for client in clients for feed in client.feeds]
        known = self.crowd.look(lambda: [len(feed.log) for feed in feeds])
        self._wait(
            lambda: self.crowd.look(lambda: all(len(feed.log) > n for feed, n in zip(feeds, known, strict=True))),
            "clients hear of something more",
        )

    def clients_of(self, web: Server) -> list[Client]:
        """Return the clients that are connected to a web process now."""
        port = f":{web.port}/"
        return self.crowd.look(lambda: [c for c in self.crowd.clients if c.is_open and port in c.address])

    def _wait(self, is_so: Callable[[], object], what: str) -> None:
        def is_so_or_broken() -> object:
            for server in [*self.webs, *self.relays, *self.writers]:
                if server.process is not None and (server.process.poll() or 0) > 0:
                    raise RuntimeError(f"A {server.name} failed; its log ends:\n{server.log_text()[-4000:]}")
            return is_so()

        wait_until(is_so_or_broken, what)

    # --- the end --------------------------------------------------------------------------------------------------

    def finish(self, grace: float = 10.0) -> Verdict:
        """Stop the writers, let everything arrive, and check the outcome.

        The very last write is announced after all others. For ``grace`` more seconds a resync may correct something.
        """
        for server in [*self.webs, *self.relays]:
            self.disarm(server)
            server.start()
        self.stop_editors()
        self.stop_writers()
        last = self.make_writer("--sentinels")
        last.start()
        assert last.process is not None
        if last.process.wait(PATIENCE):
            raise RuntimeError(f"The last writer failed:\n{last.log_text()[-4000:]}")
        # If anything is still missing after this, the checker reports it.
        final = self.databases.rows(self.url)
        with contextlib.suppress(TimeoutError):
            self.wait_for_feeds(lambda feed: feed.is_live and _holds_sentinels(feed, final), "the end arrived", 20.0)
            self.wait_for_rows(grace)
            counter = self.databases.counter(self.url)
            self._wait_for_tallies(counter, grace)
        self.crowd.stop()
        self.seconds = time.monotonic() - self._started
        return self.judge(final)

    def _wait_for_tallies(self, value: int, seconds: float) -> None:
        tallies = [editor.tally for editor in self.editors]
        wait_until(
            lambda: self.crowd.look(lambda: all(tally.value == value for tally in tallies)), "all count", seconds
        )

    def judge(self, final: Rows) -> Verdict:
        """Check the clients' records against the ledger and the database."""
        works = self.ledger.works()
        problems = self.judge_editors(final)
        try:
            history = History(self.initial, works, final)
        except LedgerError:
            # A duplicate write, or one after a refusal, is in no ledger, and the editors' own finding says more.
            if not problems:
                raise
            return Verdict(wrong=problems)
        verdict = check(history, self.records())
        verdict.wrong += problems
        return verdict

    def judge_editors(self, final: Rows) -> list[str]:
        """Return the problems of the editors' answers and of the counter."""
        mutations = [mutation for editor in self.editors for mutation in editor.mutations]
        acknowledged = sum(mutation.action == "count" and mutation.error == "" for mutation in mutations)
        count = Count(self._counted_from, self.databases.counter(self.url), acknowledged)
        problems = check_mutations(mutations, self.ledger.works(), final, count)
        for editor in self.editors:
            problems += editor.tally.problems
            if editor.tally.last != count.last:
                problems.append(f"{editor.name} holds {editor.tally.last} for the counter, expected {count.last}")
        return problems

    def records(self) -> list[Record]:
        """Return what the clients recorded."""
        return self.crowd.records()

    def closes(self) -> Counter[int | None]:
        """Return the number of the clients' closed connections, by close code."""
        return self.crowd.closes()


def is_frozen(server: Server) -> bool:
    """Return whether a server's process is stopped by a signal."""
    return server.is_running and psutil.Process(server.pid).status() == psutil.STATUS_STOPPED


def _holds_sentinels(feed: Feed, final: Rows) -> bool:
    return all(feed.rows.get(pk) == row for pk, row in seen_by(feed, final).items() if pk <= SENTINELS)


def seen_by(feed: Feed, rows: Rows) -> Rows:
    """Return the rows of a feed's group."""
    return {pk: row for pk, row in rows.items() if feed.room in (None, row["room"])}

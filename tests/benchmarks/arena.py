"""The parts of a measurement: a database and a site for each contender, a writer, and the clients."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import IO, Any, Protocol, Self
from urllib.parse import urlencode
from urllib.request import urlopen

import psutil  # type: ignore[import-untyped]

from tests.servers import ROOT, DjangoServer, PostgresServer, RedisServer

from . import contenders
from .progress import Progress

PATH = "/ws/bindings/"
SUBSCRIBE = json.dumps({"stream": "price", "payload": {"action": "subscribe", "params": {}, "ref": 1}})
#: No pings: the light clients count bytes instead of answering, and no measurement lasts longer than a ping timeout.
SERVER_ARGUMENTS = ("--ws-ping-interval", "0", "--ws-per-message-deflate", "false", "--log-level", "warning")


class ProgramError(RuntimeError):
    """Raised if a program of the benchmark ended before it answered."""


class Writer(Protocol):
    """Anything that makes a contender send: a program that saves, or one of the baselines."""

    def ask(self, **command: Any) -> Any: ...


class Program:
    """A module of this package as a process that answers commands; it ends when its standard input is closed."""

    def __init__(self, module: str, *arguments: str, env: Mapping[str, str], log: Path) -> None:
        self.module, self.log = module, log
        with log.open("ab") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", f"tests.benchmarks.{module}", *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=ROOT,
                env=dict(env),
                text=True,
            )

    def tell(self, **command: object) -> None:
        """Send a command whose answer is fetched later, by `answer()`."""
        pipe: IO[str] = self.process.stdin  # type: ignore[assignment]
        pipe.write(json.dumps(command) + "\n")
        pipe.flush()

    def answer(self) -> Any:
        pipe: IO[str] = self.process.stdout  # type: ignore[assignment]
        line = pipe.readline()
        if not line:
            raise ProgramError(f"{self.module} ended without an answer; its log ends:\n{self.log.read_text()[-3000:]}")
        return json.loads(line)

    def ask(self, **command: Any) -> Any:
        self.tell(**command)
        return self.answer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self.process.stdin is not None:
            self.process.stdin.close()
        try:
            self.process.wait(2)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


class HttpWriter:
    """A writer that makes the bare ASGI application send, by a request to it."""

    def __init__(self, port: int) -> None:
        self.port = port

    def ask(self, **command: Any) -> Any:
        with urlopen(f"http://127.0.0.1:{self.port}/?{urlencode(command)}", timeout=300) as answer:
            return json.load(answer)


class Site:
    """One contender's server with its writer and clients, all running."""

    def __init__(
        self, contender: str, pid: int, port: int, writer: Writer, clients: Program, progress: Progress
    ) -> None:
        self.contender, self.port = contender, port
        self.writer, self.clients, self.progress = writer, clients, progress
        self._process = psutil.Process(pid)

    def connect(self, clients: int, subscribe: str | None = None, subprotocol: str | None = None) -> Any:
        """Open connections up to this number, subscribed in the contender's way; return the client's answer."""
        subscribe = subscribe or (SUBSCRIBE if self.contender in contenders.WITH_DECLBIND else None)
        return self.clients.ask(do="connect", clients=clients, subscribe=subscribe, subprotocol=subprotocol)

    @property
    def cpu_seconds(self) -> float:
        """Return the CPU time of the server process, in user and kernel mode."""
        times = self._process.cpu_times()
        return float(times.user + times.system)

    @property
    def memory(self) -> int:
        """Return the server's resident bytes."""
        return int(self._process.memory_info().rss)


class Arena:
    """The servers of a whole run, each started when first needed; each contender has a database of its own."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._databases: dict[tuple[str, str], str] = {}

    def __enter__(self) -> Self:
        self.directory = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="declbind-bench-")))
        self.redis = self._stack.enter_context(RedisServer())
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    @cached_property
    def postgres(self) -> PostgresServer:
        """Return PostgreSQL, with fsync: the cost of a commit is part of the cost of a save."""
        return self._stack.enter_context(PostgresServer(durable=True))

    def environment(self, contender: str, database: str = "sqlite") -> dict[str, str]:
        """Return the environment of a contender's processes; its database is made at the first call."""
        key = contender, database
        env = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.benchmarks.settings",
            "BENCHMARK_CONTENDER": contender,
            "BENCHMARK_REDIS": self.redis.url,
        }
        if contender in contenders.FLOORS:
            return env
        if key not in self._databases:
            url = (
                self.postgres.create_database(f"bench_{contender}")
                if database == "postgres"
                else f"sqlite:///{self.directory}/{contender}.sqlite3"
            )
            migrate = [sys.executable, "-m", "django", "migrate", "--run-syncdb", "--verbosity", "0"]
            subprocess.run(migrate, env={**env, "BENCHMARK_DATABASE": url}, cwd=ROOT, check=True)
            self._databases[key] = url
        return {**env, "BENCHMARK_DATABASE": self._databases[key]}

    @contextmanager
    def writer(self, contender: str, database: str = "sqlite") -> Iterator[Program]:
        """Run a writer without a server."""
        path = self.directory / f"{contender}.progress"
        Progress.create(path)
        with self.program("writer", contender, str(path), database=database) as writer:
            writer.ask(do="burst", saves=0)
            yield writer

    @contextmanager
    def site(self, contender: str, database: str = "sqlite") -> Iterator[Site]:
        """Run a fresh server of a contender, with a writer and clients that are not yet connected."""
        path = self.directory / f"{contender}.progress"
        progress = Progress.create(path)
        with ExitStack() as stack:
            writer: Writer
            if contender == contenders.SOCKETS:
                writer = floor = stack.enter_context(self.program("sockets", contender))
                pid, port = floor.process.pid, floor.ask(do="listen")["port"]
            else:
                app = "bare" if contender == contenders.ASGI else "asgi"
                server = stack.enter_context(
                    DjangoServer(
                        f"tests.benchmarks.{app}:application",
                        env=self.environment(contender, database),
                        arguments=SERVER_ARGUMENTS,
                    )
                )
                pid, port = server.pid, server.port
                if contender in contenders.BARE:
                    writer = HttpWriter(port)
                else:
                    writer = stack.enter_context(self.program("writer", contender, str(path), database=database))
                    writer.ask(do="burst", saves=0)  # its rows exist by now, or clients would receive them
            clients = stack.enter_context(self.program("client", contender, str(port), PATH, str(path)))
            yield Site(contender, pid, port, writer, clients, progress)

    def program(self, module: str, contender: str, *arguments: str, database: str = "sqlite") -> Program:
        """Run a module of this package as a contender's process."""
        log = self.directory / f"{contender}-{module}.log"
        return Program(module, *arguments, env=self.environment(contender, database), log=log)

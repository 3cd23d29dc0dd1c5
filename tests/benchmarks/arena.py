"""Run what a measure needs: a database and a site for each contender, a writer, and the clients."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, Self

import psutil  # type: ignore[import-untyped]

from tests.servers import ROOT, DjangoServer, PostgresServer, RedisServer

from . import contenders
from .progress import Progress

PATH = "/ws/bindings/"
SUBSCRIBE = json.dumps({"stream": "price", "payload": {"action": "subscribe", "params": {}, "ref": 1}})


class ProgramError(RuntimeError):
    """Say that a program of the benchmark ended before it had answered."""


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

    def tell(self, **command: Any) -> None:
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


class Site:
    """One contender's server with its writer and clients, all running."""

    def __init__(self, server: DjangoServer, writer: Program, clients: Program, progress: Progress) -> None:
        self.server, self.writer, self.clients, self.progress = server, writer, clients, progress
        self._process = psutil.Process(server.pid)
        self._subscribe: str | None = None

    def connect(self, clients: int, subscribe: str | None) -> None:
        self.clients.ask(do="connect", clients=clients, subscribe=subscribe)

    @property
    def cpu_seconds(self) -> float:
        """Return what the server process has used, in user and kernel mode."""
        times = self._process.cpu_times()
        return float(times.user + times.system)

    @property
    def memory(self) -> int:
        """Return the server's resident bytes."""
        return int(self._process.memory_info().rss)


class Arena:
    """Keep the servers of a whole run; each contender has a database of its own."""

    def __init__(self, database: str) -> None:
        self.database = database
        self._stack = ExitStack()
        self._databases: dict[str, str] = {}

    def __enter__(self) -> Self:
        self.directory = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="declbind-bench-")))
        self.redis = self._stack.enter_context(RedisServer())
        # With fsync: what a commit costs is part of what a save costs.
        self.postgres = self._stack.enter_context(PostgresServer(durable=True)) if self.database == "postgres" else None
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    def environment(self, contender: str) -> dict[str, str]:
        """Return the environment of a contender's processes; its database is made at the first call."""
        env = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.benchmarks.settings",
            "BENCHMARK_CONTENDER": contender,
            "BENCHMARK_REDIS": self.redis.url,
        }
        if contender in self._databases:
            return {**env, "BENCHMARK_DATABASE": self._databases[contender]}
        url = (
            self.postgres.create_database(f"bench_{contender}")
            if self.postgres is not None
            else f"sqlite:///{self.directory}/{contender}.sqlite3"
        )
        self._databases[contender] = env["BENCHMARK_DATABASE"] = url
        migrate = [sys.executable, "-m", "django", "migrate", "--run-syncdb", "--verbosity", "0"]
        subprocess.run(migrate, env=env, cwd=ROOT, check=True)
        return env

    @contextmanager
    def writer(self, contender: str) -> Iterator[Program]:
        """Run a writer without a server."""
        Progress.create(self.directory / f"{contender}.progress")
        with self._program("writer", contender, str(self.directory / f"{contender}.progress")) as writer:
            yield writer

    @contextmanager
    def site(self, contender: str) -> Iterator[Site]:
        """Run a fresh server of a contender, with a writer and clients that are not yet connected."""
        env = self.environment(contender)
        path = self.directory / f"{contender}.progress"
        progress = Progress.create(path)
        with (
            DjangoServer("tests.benchmarks.asgi:application", env=env) as server,
            self._program("writer", contender, str(path)) as writer,
            self._program("client", contender, str(server.port), PATH, str(path)) as clients,
        ):
            writer.ask(do="burst", saves=0)  # its rows are made by now, or clients would hear of them
            yield Site(server, writer, clients, progress)

    def _program(self, module: str, contender: str, *arguments: str) -> Program:
        log = self.directory / f"{contender}-{module}.log"
        return Program(module, *arguments, env=self.environment(contender), log=log)


def subscription(contender: str) -> str | None:
    """Return what a client sends to hear of the prices; the hand-written consumer joins its group at connect."""
    return None if contender == contenders.HANDWRITTEN else SUBSCRIBE

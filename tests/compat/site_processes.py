"""The processes of one cell: the site's servers, its writers and its proxy, on a database of its own."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Self
from urllib.parse import urlsplit

from tests.servers import ROOT, Server

from .asgi_servers import AsgiServer, script
from .backends import Backends
from .cells import Cell
from .proxy import Nginx

PATIENCE = 60.0
PREPARE_SECONDS = 180.0


class Worker(Server):
    """A process of the project that performs operations from a queue."""

    name = "worker"

    def __init__(self, command: Sequence[str], env: Mapping[str, str], ready: str) -> None:
        super().__init__()
        self._command, self.env, self.ready = list(command), dict(env), ready

    def command(self) -> Sequence[str]:
        return self._command

    def environment(self) -> Mapping[str, str]:
        return {**os.environ, "PYTHONUNBUFFERED": "1", **self.env}

    def is_ready(self) -> bool:
        return self.ready in self.log_text()


class Site:
    """A prepared site; as a context manager it ends the processes that it has started."""

    def __init__(self, cell: Cell, backends: Backends, *, sabotage: str = "") -> None:
        self.cell, self.backends = cell, backends
        self._stack = contextlib.ExitStack()
        self._sabotage = sabotage
        self._writer: subprocess.Popen[str] | None = None
        self.tls: ssl.SSLContext | None = None
        self.servers: list[AsgiServer] = []

    def __enter__(self) -> Self:
        with self._stack as stack:
            self.directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="declbind-compat-")))
            # A server that drops root privileges still writes its sessions there.
            self.directory.chmod(0o777)
            self.env = self._environment()
            self._prepare()
            for _ in range(self.cell.servers):
                server = AsgiServer(self.cell.server, {**self.env, "COMPAT_SABOTAGE": self._sabotage})
                self.servers.append(stack.enter_context(contextlib.closing(server)))
            self.start_servers()
            if self.cell.front == "nginx":
                front = stack.enter_context(Nginx(self.servers[0].port, "/app"))
                self.front: Nginx | None = front
                self.tls = front.client_context()
            else:
                self.front = None
            self._start_worker()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    # --- set-up -------------------------------------------------------------------------------------------------------

    def _environment(self) -> dict[str, str]:
        cell, backends = self.cell, self.backends
        self.url = backends.make_database(cell.database, pooled=cell.pooled, schema=cell.schema)
        settings = json.dumps(dict(cell.settings)).replace("{directory}", str(self.directory))
        if "{redis}" in settings:
            settings = settings.replace("{redis}", backends.redis.url)
        merged = json.loads(settings)
        if cell.layer == "memory":
            merged["CHANNEL_LAYERS"] = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
        elif cell.layer != "none":
            store = backends.valkey if cell.store == "valkey" else backends.redis
            # The system checks declbind.W005 and W006 require these.
            host = {
                "address": store.url, "socket_timeout": None, "socket_keepalive": True, "health_check_interval": 30,
                "max_connections": 10_000,
            }  # fmt: skip
            merged["CHANNEL_LAYERS"] = {"default": {"BACKEND": cell.layer, "CONFIG": {"hosts": [host]}}}
        env = {
            "DJANGO_SETTINGS_MODULE": "tests.compat.site.settings",
            "DATABASE_URL": self.url,
            "COMPAT_DATABASE": json.dumps(dict(cell.connection)),
            "COMPAT_SETTINGS": json.dumps(merged),
            "PYTHONPATH": str(ROOT),
        }
        if cell.writer == "celery":
            env["COMPAT_BROKER"] = backends.redis.url
        return env

    def _prepare(self) -> None:
        arguments = ["--triggers"] if self.cell.has_triggers else []
        done = subprocess.run(
            [sys.executable, "-m", "tests.compat.site.prepare", *arguments],
            env={**os.environ, **self.env}, cwd=ROOT, capture_output=True, text=True, timeout=PREPARE_SECONDS,
            stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"the site could not be prepared: {done.stderr[-3000:]}")

    def _start_worker(self) -> None:
        if self.cell.writer == "celery":
            command = [
                script("celery"), "-A", "tests.compat.site.celery_jobs", "worker", "--pool", "prefork",
                "--concurrency", "2", "--loglevel", "INFO",
            ]  # fmt: skip
            self._stack.enter_context(Worker(command, self.env, "ready."))
        elif self.cell.writer == "tasks":
            command = [sys.executable, "-m", "django", "db_worker", "--interval", "0.05", "--verbosity", "3"]
            self._stack.enter_context(Worker(command, self.env, "Starting worker"))

    # --- the servers --------------------------------------------------------------------------------------------------

    def start_servers(self) -> None:
        """Start the servers one after the other."""
        for server in self.servers:
            server.start()

    def kill_servers(self) -> None:
        """Kill every server as a crash would."""
        for server in self.servers:
            server.kill()

    def end_servers(self) -> None:
        """Ask every server to shut down, as a deployment does."""
        for server in self.servers:
            server.signal(signal.SIGTERM)

    def log_tails(self) -> str:
        """Return the ends of the servers' logs, for an error message."""
        return "".join(f"\n--- log of {s.kind}:\n{s.log_text()[-3000:]}" for s in self.servers if s.log_text())

    def program_versions(self) -> list[str]:
        """Return the names and versions of the programs that this cell needs, other than packages and its database."""
        versions = []
        if self.cell.layer not in ("none", "memory") or "{redis}" in json.dumps(dict(self.cell.settings)):
            store = self.backends.valkey if self.cell.store == "valkey" else self.backends.redis
            versions.append(store.version())
        if self.cell.pooled:
            versions.append(self.backends.pgbouncer.version())
        if self.front is not None:
            versions.append(self.front.version())
        return versions

    def base_url(self, number: int = 0) -> str:
        """Return the address of the site at one of its servers, or at its proxy."""
        if self.front is not None:
            return self.front.url
        return f"http://127.0.0.1:{self.servers[number % len(self.servers)].port}"

    def socket_url(self, number: int = 0) -> str:
        """Return the address of the bindings."""
        return self.base_url(number).replace("http", "ws", 1) + "/ws/bindings/"

    # --- requests -----------------------------------------------------------------------------------------------------

    def log_in(self, name: str) -> str:
        """Log a user in and return the session's cookie."""
        return self._fetch(f"/login/{name}/")[1]

    def visit(self, cookie: str) -> str:
        """Request a page that changes the session; return the cookie that the browser has afterwards."""
        return self._fetch("/visit/", cookie=cookie)[1] or cookie

    def log_out(self, cookie: str) -> None:
        """End a session."""
        self._fetch("/logout/", cookie=cookie)

    def _fetch(self, path: str, *, cookie: str = "", body: str | None = None) -> tuple[Any, str]:
        address = urlsplit(self.base_url() + path)
        assert address.hostname is not None
        connection: http.client.HTTPConnection
        if self.tls is not None:
            connection = http.client.HTTPSConnection(address.hostname, address.port, timeout=PATIENCE, context=self.tls)
        else:
            connection = http.client.HTTPConnection(address.hostname, address.port, timeout=PATIENCE)
        with contextlib.closing(connection):
            headers = {"Cookie": cookie} if cookie else {}
            connection.request("GET" if body is None else "POST", address.path, body, headers)
            response = connection.getresponse()
            text = response.read().decode()
            if response.status != 200:
                raise RuntimeError(f"{path} answered {response.status}: {text[:2000]}")
            cookies = response.headers.get_all("Set-Cookie") or []
            session = next((c.split(";")[0] for c in cookies if c.startswith("sessionid=")), "")
            return json.loads(text), session

    # --- writes -------------------------------------------------------------------------------------------------------

    def perform(self, name: str, /, **arguments: Any) -> Any:
        """Perform an operation with this cell's writer, and return its result."""
        if self.cell.writer == "process":
            return self.perform_elsewhere(name, **arguments)
        place = "here" if self.cell.writer == "request" else self.cell.writer
        body = json.dumps({"name": name, "arguments": arguments})
        return self._fetch(f"/write/{place}/", body=body)[0]["result"]

    def perform_elsewhere(self, name: str, /, **arguments: Any) -> Any:
        """Perform an operation in a process without a server, which lives as long as the site."""
        if self._writer is None:
            log = self._stack.enter_context((self.directory / "writer.log").open("w"))
            self._writer = self._start_writer(log)
        writer = self._writer
        assert writer.stdin is not None
        assert writer.stdout is not None
        writer.stdin.write(json.dumps({"name": name, "arguments": arguments}) + "\n")
        writer.stdin.flush()
        line = writer.stdout.readline()
        if not line:
            raise RuntimeError(f"the writer has ended: {(self.directory / 'writer.log').read_text()[-3000:]}")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(f"{name} failed in the writer: {answer['error']}")
        return answer["result"]

    def _start_writer(self, log: IO[str]) -> subprocess.Popen[str]:
        writer = subprocess.Popen(
            [sys.executable, "-m", "tests.compat.site.writer"],
            env={**os.environ, **self.env, "COMPAT_SABOTAGE": self._sabotage},
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
        )  # fmt: skip
        self._stack.callback(self._end_writer, writer)
        return writer

    @staticmethod
    def _end_writer(writer: subprocess.Popen[str]) -> None:
        # Closing its input ends the process.
        assert writer.stdin is not None
        assert writer.stdout is not None
        writer.stdin.close()
        try:
            writer.wait(10)
        except subprocess.TimeoutExpired:
            writer.kill()
            writer.wait()
        writer.stdout.close()

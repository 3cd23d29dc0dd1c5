"""The ASGI servers of the course, each started with the options that `docs/deployment.md` gives."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.servers import Server

APPLICATION = "tests.compat.site.asgi:application"
SITE = Path(__file__).parent / "site"


def uvicorn(port: int, *options: str) -> list[str]:
    """Return a command of uvicorn."""
    return [
        sys.executable, "-m", "uvicorn", "--host", "127.0.0.1", "--port", str(port), "--no-access-log",
        "--ws-max-size", "65536", "--timeout-graceful-shutdown", "2", *options, APPLICATION,
    ]  # fmt: skip


def script(name: str) -> str:
    """Return the path of a program that a package has installed beside the interpreter."""
    return os.path.join(os.path.dirname(sys.executable), name)


COMMANDS: Mapping[str, Callable[[int], list[str]]] = {
    "uvicorn": lambda port: uvicorn(port, "--loop", "asyncio", "--ws", "auto"),
    "uvicorn-uvloop": lambda port: uvicorn(port, "--loop", "uvloop"),
    "uvicorn-wsproto": lambda port: uvicorn(port, "--ws", "wsproto"),
    "uvicorn-workers": lambda port: uvicorn(port, "--workers", "2"),
    "daphne": lambda port: [
        sys.executable, "-m", "daphne", "-b", "127.0.0.1", "-p", str(port), "--websocket-max-message-size", "65536",
        "--websocket-max-frame-size", "65536", "--websocket_timeout", "-1", APPLICATION,
    ],
    "granian": lambda port: [
        script("granian"), "--interface", "asginl", "--workers", "1", "--host", "127.0.0.1", "--port", str(port),
        APPLICATION,
    ],
    "hypercorn": lambda port: [
        sys.executable, "-m", "hypercorn", "-w", "1", "-c", str(SITE / "hypercorn.toml"), "-b", f"127.0.0.1:{port}",
        APPLICATION,
    ],
    "gunicorn": lambda port: [
        sys.executable, "-m", "gunicorn", "-w", "2", "-k", "tests.compat.site.workers.BindingsWorker", "-b",
        f"127.0.0.1:{port}", APPLICATION,
    ],
    "gunicorn-asgi": lambda port: [
        sys.executable, "-m", "gunicorn", "-w", "2", "-k", "asgi", "--websocket-max-message-size", "65536", "-b",
        f"127.0.0.1:{port}", APPLICATION,
    ],
    "runserver": lambda port: [sys.executable, "-m", "django", "runserver", "--noreload", f"127.0.0.1:{port}"],
}  # fmt: skip


class AsgiServer(Server):
    """One server with its workers; killing it kills them all."""

    name = "asgi"

    def __init__(self, kind: str, env: Mapping[str, str | None]) -> None:
        super().__init__()
        self.kind, self.env = kind, dict(env)

    def command(self) -> Sequence[str]:
        return COMMANDS[self.kind](self.port)

    def environment(self) -> Mapping[str, str]:
        merged: dict[str, str | None] = {**os.environ, "PYTHONUNBUFFERED": "1", **self.env}
        return {key: value for key, value in merged.items() if value is not None}

    def kill(self) -> None:
        """Kill the server and its workers at once: they share the process group of the server."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
        super().kill()

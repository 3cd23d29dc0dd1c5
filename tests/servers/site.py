"""A Django site."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

from .process import Server


class DjangoServer(Server):
    """An ASGI application, served by uvicorn or daphne in a process of its own.

    `env` is merged over the environment of this process; most callers need `DATABASE_URL` (the fixture `server_env`
    provides it for the database of the running test). A value of None removes the key. `arguments` are passed to the
    server program.
    """

    name = "django"

    def __init__(
        self,
        app: str = "example_site.asgi:application",
        *,
        env: Mapping[str, str | None] | None = None,
        program: str = "uvicorn",
        arguments: Sequence[str] = (),
    ) -> None:
        if program not in ("uvicorn", "daphne"):
            raise ValueError(f"expected program 'uvicorn' or 'daphne', got {program!r}")
        super().__init__()
        self.app, self.env, self.program, self.arguments = app, dict(env or {}), program, list(arguments)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def websocket_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    def command(self) -> Sequence[str]:
        if self.program == "daphne":
            options = ["-b", "127.0.0.1", "-p", str(self.port), "--no-server-name"]
        else:
            options = [
                "--host",
                "127.0.0.1",
                "--port",
                str(self.port),
                "--lifespan",
                "off",
                "--no-access-log",
            ]
            # Otherwise an orderly stop waits until its client closes the last WebSocket.
            options += ["--timeout-graceful-shutdown", "2"]
        return [sys.executable, "-m", self.program, *options, *self.arguments, self.app]

    def environment(self) -> Mapping[str, str]:
        merged: dict[str, str | None] = {**os.environ, "PYTHONUNBUFFERED": "1", **self.env}
        return {key: value for key, value in merged.items() if value is not None}

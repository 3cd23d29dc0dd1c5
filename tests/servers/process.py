"""One server process of the tests, and the port, the user and the files that it uses."""

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
from typing import IO, Self

ROOT = Path(__file__).resolve().parent.parent.parent
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


def find_in_wheel(package: str, program: str) -> str | None:
    """Return the path of a program in the `bin` folder of an installed package, or None."""
    spec = importlib.util.find_spec(package)
    return None if spec is None or spec.origin is None else str(Path(spec.origin).parent / "bin" / program)

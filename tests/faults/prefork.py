"""Writers in forked children, like Celery's prefork workers: `python -m tests.faults.prefork --help`.

The parent has set Django up and has written before it forks: it has connections, and a thread that sends wake-ups. A
child drops the connections silently, as Celery's children do, and opens its own. After a while it ends and another
one replaces it.
"""

from __future__ import annotations

import itertools
import os
import signal
import threading
import traceback
from typing import Any

import django
from django.db import connections

from .ledger import Ledger
from .writer import Writer, build_parser, go_on, stopped_by_sigterm

CHILDREN = 2
#: The pieces of work that a child does.
SHIFT = 60


class Shift(threading.Event):
    """An event that is set when the parent is stopped or gone, or after a number of checks."""

    def __init__(self, stop: threading.Event, looks: int) -> None:
        super().__init__()
        self.stop, self.parent = stop, os.getppid()
        self.looks = itertools.count(1 - looks)

    def is_set(self) -> bool:
        """Return whether the shift is over, and count the check."""
        return next(self.looks) > 0 or self.stop.is_set() or os.getppid() != self.parent


def forget_connections() -> None:
    """Close the inherited connections without a message to the server, because they belong to the parent."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for connection in connections.all(initialized_only=True):
        if hasattr(connection.connection, "fileno"):
            # Celery closes the file descriptor; a descriptor opened in between could be closed by the next close.
            os.dup2(nothing, connection.connection.fileno())
    os.close(nothing)
    connections.close_all()


def work(options: Any, name: str, stop: threading.Event) -> None:
    """Do a shift's work as a child, and exit without returning to the parent's code."""
    status = 1
    try:
        forget_connections()
        writer = Writer(name, options.seed, Ledger(options.ledger))
        go_on(writer, options.rate / CHILDREN, Shift(stop, SHIFT))
        connections.close_all()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def main() -> None:
    """Read the arguments, and fork children until stopped; an error in a child ends the parent."""
    options = build_parser(__doc__).parse_args()
    django.setup()
    own = Writer(options.name, options.seed, Ledger(options.ledger))
    children: set[int] = set()
    names = (f"{options.name}-{number}" for number in itertools.count(1))
    with stopped_by_sigterm() as stop:
        while not stop.is_set():
            if len(children) < CHILDREN:
                own.step()
                name = next(names)
                if (pid := os.fork()) == 0:
                    work(options, name, stop)
                children.add(pid)
            elif not reap(children, os.WNOHANG):
                stop.wait(0.02)
    for pid in children:
        os.kill(pid, signal.SIGTERM)
    while children:
        reap(children, 0)


def reap(children: set[int], how: int) -> bool:
    """Wait for a child that has ended.

    Raises:
        ChildProcessError: It did not end with status 0.
    """
    pid, status = os.waitpid(-1, how)
    children.discard(pid)
    if status:
        raise ChildProcessError(f"a child ended with status {status}")
    return pid != 0


if __name__ == "__main__":
    main()

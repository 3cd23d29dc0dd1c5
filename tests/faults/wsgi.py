"""A web process without an event loop that writes in a thread for each request: `python -m tests.faults.wsgi --help`.

The server is that of `runserver`. Visitors in threads of the same process request one piece of work after the other.
Each request's thread has a database connection of its own, which Django closes when the request is over.
"""

from __future__ import annotations

import http.client
import sys
import threading
import time

import django
from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler
from django.core.wsgi import get_wsgi_application
from django.db import connections

from .ledger import Ledger
from .writer import Writer, build_parser, stopped_by_sigterm

VISITORS = 4
#: The number of writes in a piece of work: three, on average.
WRITES = 3


class QuietRequestHandler(WSGIRequestHandler):
    """A handler that logs no line for each request."""

    def log_message(self, *args: object) -> None:
        """Log nothing."""


def visit(port: int, number: int, rate: float, stop: threading.Event) -> None:
    """Request work as one writer, at about this many writes a second, until stopped."""
    while not stop.is_set():
        began = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("POST", f"/step/{number}")
        response = connection.getresponse()
        response.read()
        connection.close()
        if response.status != 200:
            sys.stderr.write(f"The work of writer {number} failed with status {response.status}.\n")
        stop.wait(max(WRITES / rate - (time.monotonic() - began), 0.01))


def main() -> None:
    """Read the arguments, serve and visit."""
    options = build_parser(__doc__).parse_args()
    django.setup()
    from .views import writers

    ledger = Ledger(options.ledger)
    for number in range(VISITORS):
        writers[number] = Writer(f"{options.name}-{number}", options.seed, ledger)
    connections.close_all()
    server = ThreadedWSGIServer(("127.0.0.1", 0), QuietRequestHandler)
    server.set_app(get_wsgi_application())
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with stopped_by_sigterm() as stop:
        arguments = [(server.server_port, number, options.rate / VISITORS, stop) for number in range(VISITORS)]
        visitors = [threading.Thread(target=visit, args=each) for each in arguments]
        for visitor in visitors:
            visitor.start()
        for visitor in visitors:
            visitor.join()
    server.shutdown()
    server.server_close()


if __name__ == "__main__":
    main()

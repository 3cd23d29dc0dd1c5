"""Shared steps of the tests of the event log."""

import threading

from django.db import connection

from declbind.outbound import log, sequencer
from declbind.outbound.entries import Draft

USING = "default"
IS_SQLITE = connection.vendor == "sqlite"


def append(*streams, **values):
    log.append([Draft(stream=stream, **values) for stream in streams], USING)


def sequenced():
    """Number what waits and return the streams of all events, in the order of the log."""
    sequencer.sequence(USING)
    return [event.stream for event in log.read(0, 10_000, USING)]


def in_thread(work):
    """Run in another thread, on a connection of its own, and wait for it."""
    faults = []

    def run():
        try:
            work()
        except Exception as error:
            faults.append(error)
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
    assert faults == []

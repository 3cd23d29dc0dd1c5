"""The situations in which the product's rules matter most, with sound and with deliberately broken code.

The situations are constructed, not left to chance: a test holds a lock until the other processes have reached their
places.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from tests.servers import PostgresServer

from .arena import Arena, wait_until
from .checker import Verdict
from .databases import PostgresDatabases
from .sabotage import GATE

SEED = 1
#: The writes of a situation that needs only some.
SOME = 60


@pytest.fixture(scope="module")
def databases() -> Iterator[PostgresDatabases]:
    with PostgresServer() as server:
        yield PostgresDatabases(server)


@contextmanager
def holding(arena: Arena, statement: str) -> Iterator[Callable[[], None]]:
    """Take a lock by a statement; yield the function that releases it."""
    with psycopg.connect(arena.url) as connection:
        connection.execute(statement.encode())
        yield connection.commit


HEAD = "SELECT seq FROM declbind_head WHERE id = 1 FOR UPDATE"
SHUT_GATE = f"SELECT pg_advisory_xact_lock({GATE})"


def ask(arena: Arena, query: str) -> Any:
    """Return the single value of a query."""
    with psycopg.connect(arena.url) as connection:
        row = connection.execute(query.encode()).fetchone()
    return row[0] if row else None


def waiting_at_the_gate(arena: Arena) -> int:
    """Return how many sessions wait for the gate to open."""
    return int(ask(arena, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"))


def waiting_for_the_head(arena: Arena) -> int:
    """Return how many sessions wait for the lock of the sequencer."""
    return int(
        ask(
            arena,
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND wait_event_type = 'Lock' AND wait_event <> 'advisory'",
        )
    )


def roll_back(databases: PostgresDatabases, variant: str | None) -> Verdict:
    """Let writers roll back much of their work."""
    with Arena(databases, seed=SEED, plain=True, webs=1) as arena:
        if variant:
            arena.sabotage(arena.writers, variant)
        arena.start()
        arena.wait_for_writes(4 * SOME)
        return arena.finish(grace=1.0)


def crash_after_commit(databases: PostgresDatabases, variant: str | None) -> Verdict:
    """Kill a writer right after its COMMIT."""
    with Arena(databases, seed=SEED, plain=True, webs=1, writers=1) as arena:
        if variant:
            arena.sabotage(arena.writers, variant)
        arena.crash(arena.writers[0], "before_sending" if variant else "after_commit", 20)
        arena.start()
        arena.wait_for_death(arena.writers)
        return arena.finish(grace=1.0)


def commit_late(databases: PostgresDatabases, variant: str | None) -> Verdict:
    """Commit events with low ids when readers have seen higher ones."""
    with Arena(databases, seed=SEED, plain=True, webs=1, writers=0) as arena:
        if variant:
            arena.sabotage(arena.webs, variant)
        arena.start()
        with holding(arena, SHUT_GATE) as open_gate:
            late = arena.make_writer("--hold", str(GATE)).start()
            wait_until(lambda: waiting_at_the_gate(arena), "the late writer has written")
            arena.writers = [arena.make_writer().start()]
            arena.wait_for_writes(SOME)
            arena.stop_writers()
            arena.wait_for_rows()
            open_gate()
        assert late.process is not None
        assert late.process.wait(20) == 0
        return arena.finish(grace=1.0)


def snapshot_with_waiting_events(databases: PostgresDatabases, variant: str | None) -> Verdict:
    """Take a snapshot while committed events have no number."""
    with Arena(databases, seed=SEED, plain=True, webs=1, writers=1) as arena:
        if variant:
            arena.sabotage(arena.webs, variant)
        arena.start()
        with holding(arena, HEAD) as free_head:
            arena.wait_for_writes(SOME)
            arena.stop_writers()
            wait_until(lambda: waiting_for_the_head(arena), "the hub wants to give numbers")
            hubs = waiting_for_the_head(arena)
            arena.add_client()
            newcomer = arena.crowd.clients[-1]
            # Without the sabotage it is not served before the events have their numbers.
            wait_until(
                lambda: (
                    waiting_for_the_head(arena) > hubs
                    or arena.crowd.look(lambda: all(feed.is_live for feed in newcomer.feeds))
                ),
                "the newcomer is served, or waits",
            )
            free_head()
        return arena.finish(grace=1.0)


def meet_in_the_sequencer(databases: PostgresDatabases, variant: str | None) -> Verdict:
    """Let one relay look for work, and another do that work before the first gets the lock."""
    with Arena(databases, seed=SEED, plain=True, webs=1, writers=1) as arena:
        arena.start()
        with holding(arena, SHUT_GATE) as open_gate:
            with holding(arena, HEAD) as free_head:
                arena.wait_for_writes(SOME)
                arena.stop_writers()
                wait_until(lambda: waiting_for_the_head(arena), "the hub wants to give numbers")
                arena.relays.append(arena.make_relay())
                if variant:
                    arena.sabotage(arena.relays, variant)
                arena.relays[0].start()
                wait_until(
                    lambda: waiting_at_the_gate(arena) or waiting_for_the_head(arena) > 1, "the relay wants to, too"
                )
                free_head()
            arena.wait_for_rows()
            open_gate()
        wait_until(lambda: not waiting_at_the_gate(arena), "the relay goes on")
        return arena.finish(grace=1.0)


def lose_replies(databases: PostgresDatabases, variant: str | None) -> Verdict:
    """Let clients of two processes write the same rows, and kill each process between commit and reply."""
    with Arena(databases, seed=SEED, plain=True, writers=0, clients=2, editors=4) as arena:
        if variant:
            arena.sabotage(arena.webs, variant)
        for web in arena.webs:
            arena.crash(web, "after_commit", 8)
        arena.start()
        arena.add_editors()
        for _ in arena.webs:
            web = arena.wait_for_death(arena.webs)
            arena.disarm(web)
            web.start()
        arena.wait_for_writes(SOME // 3)
        return arena.finish(grace=1.0)


SITUATIONS: dict[str, tuple[Callable[[PostgresDatabases, str | None], Verdict], str]] = {
    "send in post_save": (roll_back, "invented"),
    "send on commit": (crash_after_commit, "lost"),
    "read by id": (commit_late, "lost"),
    "ignore waiting": (snapshot_with_waiting_events, "disordered"),
    "read before lock": (meet_in_the_sequencer, "disordered"),
    "ignore the key": (lose_replies, "wrong"),
    "keep the key apart": (lose_replies, "wrong"),
    "look without locking": (lose_replies, "wrong"),
}


@pytest.mark.parametrize("situation", dict.fromkeys(situation for situation, _ in SITUATIONS.values()))
def test_the_situation_is_survived(databases, situation):
    """The sound product loses, invents and repeats nothing."""
    assert situation(databases, None).problems == []


@pytest.mark.parametrize("variant", SITUATIONS)
def test_the_broken_variant_is_caught(databases, variant):
    """With the rule left out, the checker detects the fault in the same situation."""
    situation, kind = SITUATIONS[variant]
    assert getattr(situation(databases, variant), kind) != []

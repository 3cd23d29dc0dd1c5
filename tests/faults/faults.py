"""Name the faults: what is done, round by round, to a site under load."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.servers import PostgresServer, RedisServer

from .arena import PATIENCE, Arena
from .checker import Frame
from .databases import Databases, run_module
from .prepare import RECORD

#: So many clients come only when writers write already: one a round, each with a snapshot in the middle of it all.
NEWCOMERS = 3


@dataclass(frozen=True)
class Fault:
    """What is done: `prepare` once before the start, `round` again and again while writers write."""

    name: str
    round: Callable[[Arena], None]
    prepare: Callable[[Arena], None] = lambda arena: None
    rounds: int = 2
    #: The fault makes resyncs necessary; elsewhere there must be none.
    resyncs: bool = False
    #: Clients lose their connections, and come back with an offset.
    disconnects: bool = False
    needs_redis: bool = False
    needs_postgres: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


def arm_web(arena: Arena, web: Any) -> None:
    place, count = arena.chance.choice(
        [("mid_fanout", arena.chance.randint(200, 900)), ("after_sequencing", arena.chance.randint(5, 25))]
        if arena.databases.kind == "postgres"
        else [("mid_fanout", arena.chance.randint(200, 900))]
    )
    arena.crash(web, place, count)


def arm_webs(arena: Arena) -> None:
    for web in arena.webs:
        arm_web(arena, web)


def kill_web(arena: Arena) -> None:
    """Let a web process die in the middle of handing out an event, or between numbering events and reading them."""
    web = arena.wait_for_death(arena.webs)
    arm_web(arena, web)
    web.start()


def arm_relay(arena: Arena, relay: Any) -> None:
    arena.crash(relay, arena.chance.choice(["while_sequencing", "after_sequencing"]), arena.chance.randint(2, 6))


def arm_relays(arena: Arena) -> None:
    for relay in arena.relays:
        arm_relay(arena, relay)


def kill_relay(arena: Arena) -> None:
    """Let `manage.py declbind relay` die with the head's lock in its hand, or just after it gave out numbers."""
    relay = arena.wait_for_death(arena.relays)
    arm_relay(arena, relay)
    relay.start()


def arm_writer(arena: Arena, writer: Any) -> None:
    arena.crash(writer, arena.chance.choice(["before_commit", "after_commit"]), arena.chance.randint(60, 180))


def arm_writers(arena: Arena) -> None:
    for writer in arena.writers:
        arm_writer(arena, writer)


def kill_writer(arena: Arena) -> None:
    """Let a writer die before its COMMIT, or after it and before anybody heard; another one takes its place."""
    dead = arena.wait_for_death(arena.writers)
    writer = arena.make_writer()
    arm_writer(arena, writer)
    arena.writers[arena.writers.index(dead)] = writer.start()


def break_redis(arena: Arena) -> None:
    """Kill Redis and start it empty, freeze it for 5 s, make it forget everything."""
    assert arena.redis is not None
    arena.redis.kill()
    arena.wait_for_writes(100)
    arena.redis.start()
    arena.wait_for_writes(100)
    arena.redis.pause()
    time.sleep(5)  # the fault is that it lasts: redis-py gives up an idle connection after 5 s
    arena.redis.resume()
    arena.wait_for_writes(100)
    arena.redis.flush()
    arena.wait_for_writes(100)


def restart_postgres(arena: Arena) -> None:
    """Restart PostgreSQL at once, as after a crash."""
    assert arena.postgres is not None
    arena.wait_for_writes(250)
    arena.postgres.kill()
    arena.postgres.start()
    arena.wait_for_writes(50)


def cut_connections(arena: Arena) -> None:
    """Cut all clients off for 2 s, every 5 s."""
    for proxy in arena.proxies:
        arena.crowd.call(proxy.cut())
    time.sleep(2)  # the fault is that it lasts
    for proxy in arena.proxies:
        arena.crowd.call(proxy.mend())
    time.sleep(3)


def burst(arena: Arena) -> None:
    """Commit 5 000 events in one transaction, beside the usual load."""
    writer = arena.make_writer("--burst", "5000").start()
    assert writer.process is not None
    if writer.process.wait(2 * PATIENCE):
        raise RuntimeError(f"The burst failed:\n{writer.log_text()[-4000:]}")


def restart_webs(arena: Arena) -> None:
    """Restart the web processes one after the other."""
    for web in arena.webs:
        web.restart()
        arena.wait_for_writes(100)


def edit_record(arena: Arena) -> None:
    """Widen, narrow, re-group, disable and restore the record, as an operator does."""
    edits: Sequence[dict[str, Any]] = (
        {"fields": ["room", "stamp", "text"]},
        {"groups": ["items", "hall-{room}"]},
        {"enabled": False},
        {},
    )
    for edit in edits:
        path = arena.ledger.folder / "record.json"
        path.write_text(json.dumps({**RECORD, **edit}))
        run_module("django", arena.url, "declbind", "apply", str(path))
        arena.wait_for_writes(150)


FAULTS: dict[str, Fault] = {
    fault.name: fault
    for fault in (
        Fault("web killed", kill_web, arm_webs, rounds=3, disconnects=True),
        Fault("relay killed", kill_relay, arm_relays, rounds=3, needs_postgres=True, options={"relays": 2}),
        Fault("writer killed", kill_writer, arm_writers, rounds=3),
        Fault("redis broken", break_redis, rounds=1, needs_redis=True),
        Fault("postgres restarted", restart_postgres, needs_postgres=True),
        Fault("connections cut", cut_connections, rounds=1, disconnects=True, options={"proxied": True}),
        Fault("burst", burst, rounds=1),
        Fault("rolling restart", restart_webs, rounds=1, disconnects=True),
        Fault("record edited", edit_record, rounds=1, resyncs=True),
    )
}


def build_arena(
    fault: Fault,
    databases: Databases,
    *,
    seed: int,
    events: int,
    rate: float,
    redis: RedisServer | None = None,
    postgres: PostgresServer | None = None,
) -> Arena:
    """Return an arena for a fault, to be entered, and then given to `suffer`."""
    return Arena(
        databases,
        seed=seed,
        events=events,
        rate=rate,
        redis=redis if fault.needs_redis else None,
        postgres=postgres,
        **fault.options,
    )


def suffer(fault: Fault, arena: Arena) -> None:
    """Go through the rounds of a fault until there were enough of them, and enough events."""
    fault.prepare(arena)
    arena.start()
    # Who comes back with the offset of an edit is told to resync; so everybody should have heard of something later.
    arena.wait_for_feeds(lambda feed: isinstance(feed.log[-1], Frame), "everybody heard of a change")
    rounds = 0
    while rounds < fault.rounds or arena.ledger.read() < arena.events:
        if rounds < NEWCOMERS:
            arena.add_client()
        fault.round(arena)
        rounds += 1

"""The faults that are inflicted, round by round, on a site under load."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.servers import RedisServer, Server

from .arena import PATIENCE, Arena, wait_until
from .checker import Verdict
from .client import Client
from .databases import Databases, run_module
from .observations import Frame, Stale
from .prepare import RECORD

#: The number of clients that arrive while writers write: one a round, each with a snapshot under load.
NEWCOMERS = 3
#: The places where the process of a client's write may die: after its events are inserted; just before the COMMIT;
#: after it, before anyone is notified; and before the reply is sent.
MUTATION_PLACES = ("before_commit", "answer_kept", "after_commit", "before_reply")
#: For how long a process is frozen: longer than a heartbeat, or while it holds the sequencer's lock.
FROZEN_SECONDS, LOCKED_SECONDS = 5.5, 2.0
#: An editor with less patience than that tries another process, while the frozen one still has its transaction open.
IMPATIENCE_SECONDS = 1.0
#: How many events the log keeps when it is trimmed early.
RETENTION = 300


@dataclass(frozen=True)
class Fault:
    """What is done: `prepare` once before the start, `round` repeatedly while writers write."""

    name: str
    round: Callable[[Arena], None]
    prepare: Callable[[Arena], None] = lambda arena: None
    rounds: int = 2
    #: The fault makes resyncs necessary; for the others there must be none.
    resyncs: bool = False
    #: Clients lose their connections, and reconnect with an offset.
    disconnects: bool = False
    needs_redis: bool = False
    #: The database must be a server, as PostgreSQL and MariaDB are: SQLite has no sequencer, and cannot be restarted.
    needs_server: bool = False
    #: Returns further conditions that do not hold at the end.
    afterwards: Callable[[Arena], list[str]] = lambda arena: []
    options: Mapping[str, Any] = field(default_factory=dict)


def arm_web(arena: Arena, web: Any) -> None:
    place, count = arena.chance.choice(
        [("mid_fanout", arena.chance.randint(100, 500)), ("after_sequencing", arena.chance.randint(5, 25))]
        if arena.databases.kind != "sqlite"
        else [("mid_fanout", arena.chance.randint(100, 500))]
    )
    arena.crash(web, place, count)


def arm_webs(arena: Arena) -> None:
    for web in arena.webs:
        arm_web(arena, web)


def kill_web(arena: Arena) -> None:
    """Make a web process die while it delivers an event, or between numbering events and reading them."""
    web = arena.wait_for_death(arena.webs)
    arm_web(arena, web)
    web.start()


def arm_relay(arena: Arena, relay: Any) -> None:
    arena.crash(relay, arena.chance.choice(["while_sequencing", "after_sequencing"]), arena.chance.randint(2, 6))


def arm_relays(arena: Arena) -> None:
    for relay in arena.relays:
        arm_relay(arena, relay)


def kill_relay(arena: Arena) -> None:
    """Make `manage.py declbind relay` die while it holds the head's lock, or just after it has assigned numbers."""
    relay = arena.wait_for_death(arena.relays)
    arm_relay(arena, relay)
    relay.start()


def arm_writer(arena: Arena, writer: Any) -> None:
    arena.crash(writer, arena.chance.choice(["before_commit", "after_commit"]), arena.chance.randint(60, 180))


def arm_writers(arena: Arena) -> None:
    for writer in arena.writers:
        arm_writer(arena, writer)


def kill_writer(arena: Arena) -> None:
    """Make a writer die before its COMMIT, or after it and before anyone is notified; another one replaces it."""
    dead = arena.wait_for_death(arena.writers)
    writer = arena.make_writer()
    arm_writer(arena, writer)
    arena.writers[arena.writers.index(dead)] = writer.start()


def break_redis(arena: Arena) -> None:
    """Kill Redis and start it empty, freeze it for 5 s, and flush it."""
    assert arena.redis is not None
    arena.redis.kill()
    arena.wait_for_writes(100)
    arena.redis.start()
    arena.wait_for_writes(100)
    arena.redis.pause()
    time.sleep(5)  # the fault has to last: redis-py closes an idle connection after 5 s
    arena.redis.resume()
    arena.wait_for_writes(100)
    arena.redis.flush()
    arena.wait_for_writes(100)


def restart_database(arena: Arena) -> None:
    """Kill the database server and restart it at once."""
    assert arena.server is not None
    arena.wait_for_writes(250)
    arena.server.kill()
    arena.server.start()
    arena.wait_for_writes(50)


def cut_connections(arena: Arena) -> None:
    """Disconnect all clients for 2 s, every 5 s."""
    for proxy in arena.proxies:
        arena.crowd.call(proxy.cut())
    time.sleep(2)  # the fault has to last
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
    """Widen, narrow, regroup, disable and restore the record, as an operator does."""
    edits: Sequence[dict[str, object]] = (
        {"fields": ["room", "stamp", "text"]},
        {"groups": ["items", "hall-{room}"]},
        {"enabled": False},
        {},
    )
    for edit in edits:
        path = arena.ledger.folder / "record.json"
        path.write_text(json.dumps({**RECORD, **edit}))
        run_module("django", arena.url, "declbind", "apply", "--yes", str(path))
        arena.wait_for_writes(150)


def arm_reply(arena: Arena, web: Any) -> None:
    arena.crash(web, arena.chance.choice(MUTATION_PLACES), arena.chance.randint(5, 20))


def arm_replies(arena: Arena) -> None:
    for web in arena.webs:
        arm_reply(arena, web)


def lose_reply(arena: Arena) -> None:
    """Make a web process die before it answers a client's write, before or after the COMMIT; the client retries."""
    web = arena.wait_for_death(arena.webs)
    arm_reply(arena, web)
    web.start()


def was_asked_again(arena: Arena) -> list[str]:
    """Return a problem if the retries or conflicts did not occur that the fault is about."""
    answers = sum((editor.answers for editor in arena.editors), Counter())
    return [
        f"no write was answered {kind!r}: {dict(answers)}" for kind in ("ok", "lost", "conflict") if not answers[kind]
    ]


def stay_frozen(arena: Arena, seconds: float, others: Sequence[Client] = (), writes: int = 100) -> None:
    """Wait, and check that writers continue, and that other clients receive their events."""
    until = time.monotonic() + seconds
    arena.wait_for_writes(writes)
    arena.wait_for_news(others)
    time.sleep(max(until - time.monotonic(), 0))  # the fault has to last


def send_home(arena: Arena) -> None:
    """Move every second client to its next address, because all have left a web process that was restarted."""
    for client in arena.crowd.clients[::2]:
        arena.crowd.look(client.leave)
        arena.crowd.look(client.come_back)


def pause_empty_handed(arena: Arena, processes: Sequence[Server]) -> None:
    """Freeze processes that hold no lock; one that holds a lock is resumed and tried again."""
    databases = arena.databases
    deadline = time.monotonic() + PATIENCE
    # On a busy machine a process holds a lock most of the time, so many tries may be needed.
    while time.monotonic() < deadline:
        for process in processes:
            process.pause()
        time.sleep(0.7)  # no working process leaves a transaction idle for this long
        if not databases.has_stalled_transaction(arena.url):
            return
        for process in processes:
            process.resume()
        time.sleep(arena.chance.uniform(0.2, 0.5))  # to release what they hold
    raise AssertionError(f"one of the processes held a lock each time they were frozen, for {PATIENCE:.0f} s")


def freeze(arena: Arena) -> None:
    """Freeze a relay and a web process: first each while it holds a lock, then both without one.

    While the sequencer's lock is held, no numbers are assigned and no events are delivered, but writers continue.
    While a client's write is not committed, its row and its key are locked, also for the client that tries another
    process.
    """
    relay, web = arena.relays[0], arena.webs[0]
    for process, place in (
        (relay, "while_sequencing"),
        (web, arena.chance.choice(("while_sequencing", "answer_kept"))),
    ):
        arena.crash(process, place, arena.chance.randint(1, 4), "SIGSTOP")
        process.restart()
        send_home(arena)
        arena.wait_for_freeze([process])
        stay_frozen(arena, LOCKED_SECONDS, writes=100 if place == "while_sequencing" else 0)
        process.resume()
    arena.wait_for_news(arena.crowd.clients)
    pause_empty_handed(arena, (relay, web))
    others = arena.clients_of(arena.webs[1])
    assert others, "nobody is there to go on"
    stay_frozen(arena, FROZEN_SECONDS, others)
    for process in (relay, web):
        process.resume()
    arena.wait_for_news(arena.crowd.clients)


def trim(arena: Arena) -> None:
    """Reconnect clients after a short time, at about the time of the trimming, and much too late."""
    # A client that leaves without a snapshot returns for one, and needs no resync.
    arena.wait_for_feeds(lambda feed: feed.is_live, "everybody is there")
    leavers = arena.chance.sample(arena.crowd.clients[2:], 3)
    for client in leavers:
        arena.crowd.look(client.leave)
    known = arena.crowd.look(lambda: [len(feed.log) for feed in leavers[2].feeds])
    for client, writes in zip(leavers, (RETENTION // 5, RETENTION, 9 * RETENTION // 4), strict=True):
        arena.wait_for_writes(writes)
        arena.crowd.look(client.come_back)

    def was_told() -> bool:
        feeds = zip(leavers[2].feeds, known, strict=True)
        return all(any(isinstance(observed, Stale) for observed in feed.log[start:]) for feed, start in feeds)

    wait_until(lambda: arena.crowd.look(was_told), "who came too late is told so")


def only_the_late_were_told(arena: Arena) -> list[str]:
    """Return the clients that got a resync without having been away, or for another reason."""
    return [
        f"{client.name}, {client.absences} times away, was told {observed.reason!r}"
        for client in arena.crowd.clients
        for feed in client.feeds
        for observed in feed.log
        if isinstance(observed, Stale) and not (client.absences and observed.reason == "resync expired")
    ]


def renew_writers(arena: Arena) -> None:
    """Restart a web process, and replace each writer."""
    arena.webs[0].restart()
    for place, writer in enumerate(arena.writers):
        writer.stop()
        arena.writers[place] = arena.make_writer().start()
    arena.wait_for_writes(200)


def everybody_wrote(arena: Arena) -> list[str]:
    """Return the writers that wrote nothing."""
    ledgers = sorted(arena.ledger.folder.glob("w*.jsonl"))
    return [f"the writer of {path.name} wrote nothing" for path in ledgers if '["done",' not in path.read_text()]


FAULTS: dict[str, Fault] = {
    fault.name: fault
    for fault in (
        Fault("web killed", kill_web, arm_webs, rounds=2, disconnects=True, options={"daphnes": 1}),
        Fault("relay killed", kill_relay, arm_relays, rounds=2, needs_server=True, options={"relays": 2}),
        Fault("writer killed", kill_writer, arm_writers, rounds=2),
        Fault("redis broken", break_redis, rounds=1, needs_redis=True),
        Fault("database restarted", restart_database, needs_server=True, options={"editors": 2}),
        Fault("connections cut", cut_connections, rounds=1, disconnects=True, options={"proxied": True, "editors": 2}),
        Fault("burst", burst, rounds=1, options={"daphnes": 1}),
        Fault("rolling restart", restart_webs, rounds=1, disconnects=True, options={"daphnes": 1}),
        Fault("record edited", edit_record, rounds=1, resyncs=True),
        Fault(
            "reply lost",
            lose_reply,
            arm_replies,
            rounds=3,
            disconnects=True,
            afterwards=was_asked_again,
            options={"writers": 1, "editors": 4, "daphnes": 1},
        ),
        Fault(
            "process frozen",
            freeze,
            rounds=1,
            disconnects=True,
            needs_server=True,
            options={"relays": 2, "editors": 3, "patience": IMPATIENCE_SECONDS},
        ),
        Fault(
            "log trimmed",
            trim,
            rounds=1,
            disconnects=True,
            resyncs=True,
            afterwards=only_the_late_were_told,
            options={"writers": 1, "relays": 1, "settings": {"RETENTION_EVENTS": RETENTION}, "trim_seconds": 0.2},
        ),
        Fault(
            "all writers",
            renew_writers,
            rounds=1,
            disconnects=True,
            needs_redis=True,
            afterwards=everybody_wrote,
            options={"writers": 3, "kinds": ("writer", "wsgi", "prefork")},
        ),
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
    server: Server | None = None,
) -> Arena:
    """Return an arena for a fault, to be entered, and then given to `suffer`."""
    return Arena(
        databases,
        seed=seed,
        events=events,
        rate=rate,
        redis=redis if fault.needs_redis else None,
        server=server,
        **fault.options,
    )


def suffer(fault: Fault, arena: Arena) -> None:
    """Run rounds of a fault until there were enough of them, and enough events."""
    fault.prepare(arena)
    arena.start()
    # A client that reconnects with the offset of an edit gets a resync, so each should have received a later event.
    arena.wait_for_feeds(lambda feed: isinstance(feed.log[-1], Frame), "everybody heard of a change")
    # Not earlier: the rounds may end all web processes, and starting them again is up to the round.
    arena.add_editors()
    rounds = 0
    while rounds < fault.rounds or arena.ledger.read() < arena.events:
        if rounds < NEWCOMERS:
            arena.add_client()
        fault.round(arena)
        rounds += 1


def conclude(fault: Fault, arena: Arena) -> Verdict:
    """Finish an arena after a fault, and check the outcome."""
    verdict = arena.finish()
    verdict.wrong += fault.afterwards(arena)
    return verdict

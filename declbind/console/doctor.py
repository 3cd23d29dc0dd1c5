"""The doctor, which examines the running installation and names the remedy for each fault."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta

from django.conf import settings as django_settings
from django.db import connections
from django.db.migrations.executor import MigrationExecutor
from django.db.models import Q
from django.utils import timezone

from declbind import checks
from declbind.conf import settings
from declbind.models import Configuration, Event, Node, Traffic
from declbind.outbound import history, log, relay, sessions
from declbind.outbound.capture import find_faults
from declbind.outbound.memory_databases import describe_memory
from declbind.outbound.triggers import upkeep
from declbind.registry import load_configuration

from . import surroundings, unseen
from .finding import Finding, Level
from .limits import limited_queries
from .output import format_count
from .ping import ping
from .withheld import load_withheld

#: The age from which an event without a number, or a process on an old version, counts as a fault.
PATIENCE_SECONDS = 10.0


def examine(using: str, seconds: float | None = None) -> list[Finding]:
    """Return all findings for the log and the records in database ``using``. Rings the doorbell once; changes nothing.

    If an examination fails, this is reported as a finding, and the others go on. With ``seconds``, the doctor ends
    after about that time: long queries are cancelled if the database supports it, and skipped examinations are
    reported.
    """
    deadline = None if seconds is None else time.monotonic() + seconds
    migrated = _guarded("migrations", lambda: _migrations(using), using, deadline)
    found = list(migrated)
    parts: list[tuple[str, Callable[[], Iterable[Finding]]]] = [
        ("settings", _settings),
        ("application", surroundings.find_application),
        ("classes", surroundings.find_classes),
        ("database", lambda: _database(using)),
        ("channel layer", _channel_layer),
        ("bindings", lambda: _bindings(using)),
    ]
    if all(finding.ok for finding in migrated):
        parts += [
            ("capture", lambda: _capture(using)),
            ("log", lambda: _log(using)),
            ("snapshots", lambda: surroundings.find_large_groups(using)),
            ("files", lambda: surroundings.find_changed_files(using)),
            ("processes", lambda: _processes(using)),
            ("errors", lambda: _errors(using)),
        ]
    for name, part in parts:
        found += _guarded(name, part, using, deadline)
    return found


def _guarded(name: str, part: Callable[[], Iterable[Finding]], using: str, deadline: float | None) -> list[Finding]:
    left = None if deadline is None else deadline - time.monotonic()
    if left is not None and left <= 0:
        return [
            Finding(
                name,
                "bad",
                "Not examined: the examinations before it took all of the time.",
                "Run it again, or run `manage.py declbind doctor`, which has no time limit.",
            )
        ]
    try:
        if left is None:
            return list(part())
        with limited_queries(using, left):
            return list(part())
    except Exception as error:  # A failing examination must not stop the others.
        return [Finding(name, "bad", f"Could not be examined: {type(error).__name__}: {error}".strip())]


def _migrations(using: str) -> Iterator[Finding]:
    executor = MigrationExecutor(connections[using])
    targets = [key for key in executor.loader.graph.leaf_nodes() if key[0] == "declbind"]
    missing = [migration.name for migration, _ in executor.migration_plan(targets) if migration.app_label == "declbind"]
    if missing:
        yield Finding(
            "migrations",
            "bad",
            f"Database {using!r} lacks {format_count(len(missing), 'migration')}: {', '.join(missing)}.",
            f"Run `manage.py migrate --database {using}`.",
        )
    else:
        yield Finding("migrations", "ok", f"Database {using!r} is up to date.")


def _settings() -> Iterator[Finding]:
    messages = [*checks.check_settings(), *checks.check_installation(), *checks.check_sessions()]
    for message in messages:
        level: Level = "bad" if message.is_serious() else "note"
        yield Finding("settings", level, f"{message.id}: {message.msg}", message.hint or "")
    if not messages:
        yield Finding("settings", "ok", "DECLBIND is valid.")
    if django_settings.DEBUG:
        yield Finding(
            "debug",
            "note",
            "DEBUG is on: each database connection of each process keeps its last 9000 statements in memory.",
            "Turn DEBUG off in long-running processes.",
        )


def _database(using: str) -> Iterator[Finding]:
    connection = connections[using]
    if in_memory := describe_memory(using):
        yield Finding("database", "bad", in_memory, 'Set DATABASES to a file, such as BASE_DIR / "db.sqlite3".')
        return
    if connection.vendor != "sqlite":
        yield Finding("database", "ok", f"Database {using!r} is {connection.display_name}.")
        return
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA journal_mode")
        journal = str(cursor.fetchone()[0]).lower()
    if journal not in ("wal", "memory"):
        yield Finding(
            "SQLite journal",
            "bad",
            f"The journal mode is {journal!r}: readers and the writer wait for each other.",
            'Set OPTIONS["init_command"] = "PRAGMA journal_mode=WAL;" in DATABASES.',
        )
    mode = connection.settings_dict.get("OPTIONS", {}).get("transaction_mode") or "DEFERRED"
    if str(mode).upper() == "DEFERRED":
        yield Finding(
            "SQLite transactions",
            "bad",
            'Transactions are DEFERRED: one that reads and then writes fails at once with "database is locked" when '
            "another has written meanwhile, whatever the timeout.",
            'Set OPTIONS["transaction_mode"] = "IMMEDIATE" in DATABASES.',
        )
    if journal == "wal" and str(mode).upper() != "DEFERRED":
        yield Finding("database", "ok", f"Database {using!r} is SQLite with WAL and {str(mode).upper()} transactions.")


def _channel_layer() -> Iterator[Finding]:
    config = relay.layer_config()
    if config is None or not relay.carries_doorbell():
        which = "There is no channel layer" if config is None else "The in-memory layer reaches no other process"
        yield Finding(
            "channel layer",
            "ok",
            f"{which}: other processes read the log every {settings.POLL_SECONDS:g} s.",
        )
        return
    for message in checks.check_channel_layer():
        yield Finding("channel layer", "bad", f"{message.id}: {message.msg}", message.hint or "")
    backend = config["BACKEND"]
    try:
        ping()
    except Exception as error:
        yield Finding(
            "channel layer",
            "bad",
            f"{backend} does not answer ({type(error).__name__}: {error}): nothing is lost, but other processes learn "
            f"of a change up to {settings.POLL_SECONDS:g} s later.",
            "Start the server behind CHANNEL_LAYERS, or correct its address.",
        )
    else:
        yield Finding("channel layer", "ok", f"{backend} answers.")
    if backend == checks.CORE_LAYER:
        capacity = (config.get("CONFIG") or {}).get("capacity", 100)
        yield Finding(
            "channel layer",
            "note",
            f"{backend} silently drops messages when {capacity} wait in a process. declbind loses nothing, "
            "but your own consumers may.",
            'Raise CONFIG["capacity"], or use channels_redis.pubsub.RedisPubSubChannelLayer.',
        )


def _bindings(using: str) -> Iterator[Finding]:
    _, registry = load_configuration(using)
    for entry in registry.entries:
        for problem in entry.problems:
            yield Finding(
                "binding",
                "bad",
                f"{entry.where} is left out: {problem.message}",
                "Correct or disable it; `manage.py declbind check` lists all problems.",
            )
    for stream, binding in registry.by_stream.items():
        held = binding.held_names()
        if held:
            yield Finding(
                "binding",
                "note",
                f"{stream}: {binding.model_class()._meta.label} got {', '.join(held)} later, which is not sent until "
                "it is accepted.",
                f"Accept this on the binding's page, or run `manage.py declbind accept {stream}`.",
            )
    yield Finding("bindings", "ok", f"{format_count(len(registry.by_stream), 'binding')} in force.")


def _capture(using: str) -> Iterator[Finding]:
    faults: dict[unseen.Gap, list[str]] = {}
    for stream, gap in unseen.faulty_streams(using):
        faults.setdefault(gap, []).append(stream)
    for gap, streams in faults.items():
        yield Finding("capture", "bad", f"{', '.join(streams)}: not captured: {gap.text}", gap.action)
    left_over = [state.table for state in upkeep.load_states(using) if state.state == "left over"]
    if left_over:
        yield Finding(
            "capture",
            "note",
            f"Triggers that no binding uses are installed on {', '.join(left_over)}.",
            unseen.INSTALL,
        )
    held_back = load_withheld(using)
    for stream, text in held_back.items():
        yield Finding(
            "secrets", "bad", f"{stream}: {text}", "The values are not sent to anyone. Correct the code or the record."
        )
    broken = [fault for fault in find_faults() if fault.seam.concerns != "none"]
    for seam_fault in broken:
        yield Finding("capture", "bad", seam_fault.text, seam_fault.action)
    if not settings.CAPTURE_RAW:
        yield Finding(
            "capture",
            "note",
            "What fixtures write is not captured, because CAPTURE_RAW is off.",
            'Set DECLBIND["CAPTURE_RAW"] = True, or announce the rows with declbind.touch(queryset) after loaddata.',
        )
    if not (faults or broken):
        yield Finding("capture", "ok", "The bindings capture the writes that they are meant to capture.")


def _log(using: str) -> Iterator[Finding]:
    head = log.load_head(using)
    kept = head.offset - head.min_offset + 1
    yield Finding(
        "log",
        "ok",
        f"Epoch {head.epoch}, offset {head.offset}, the oldest event kept is {head.min_offset} ({kept} in all).",
    )
    # If ids are the offsets, readers stop at a trigger's mark until it has been converted to events.
    sequenced = history.needs_sequencer(using)
    unread = Q(seq__isnull=True) if sequenced else Q(kind=Event.MARK)
    waiting = Event.objects.using(using).filter(unread)
    oldest = waiting.order_by("id").values_list("created_at", flat=True).first()
    if oldest is None:
        if sequenced:
            yield Finding("sequencer", "ok", "Every event has its number.")
        return
    what = format_count(
        waiting.count(), "event" if sequenced else "note of a trigger", "" if sequenced else "notes of triggers"
    )
    age = (timezone.now() - oldest).total_seconds()
    late = age > PATIENCE_SECONDS
    holder = sessions.describe_holders(using) if late else ""
    action = (
        "End that session: `SELECT pg_terminate_backend(pid)`."
        if holder
        else "No process numbers the log, so clients receive nothing. Run an ASGI process, or "
        "`manage.py declbind relay`."
    )
    yield Finding(
        "sequencer",
        "bad" if late else "ok",
        f"{what} without a number, the oldest for {age:.0f} s. {holder}".strip(),
        action if late else "",
    )


def _processes(using: str) -> Iterator[Finding]:
    now = timezone.now()
    alive = list(Node.objects.using(using).filter(seen_at__gte=now - timedelta(seconds=3 * settings.HEARTBEAT_SECONDS)))
    if not alive:
        yield Finding(
            "processes",
            "note",
            "No ASGI process has served a socket lately, so no client is connected. A process appears here with its "
            "first socket.",
            "If clients should be connected, start one, such as daphne or uvicorn, and open a page.",
        )
        return
    configuration = Configuration.objects.using(using).filter(pk=1).first()
    generation, version = (configuration.generation, configuration.version) if configuration else ("", 0)
    behind = [node for node in alive if (node.generation, node.version) != (generation, version)]
    patience = timedelta(seconds=settings.HEARTBEAT_SECONDS + PATIENCE_SECONDS)
    late = configuration is not None and now - configuration.changed_at > patience
    meaning = f"{len(alive) - len(behind)} of {format_count(len(alive), 'process', 'processes')} on version {version}"
    if behind:
        names = ", ".join(f"{node} on {node.version}" for node in behind)
        yield Finding(
            "processes",
            "bad" if late else "ok",
            f"{meaning}; {names}.",
            "Read their last error and restart them." if late else "",
        )
    else:
        yield Finding("processes", "ok", f"{meaning}.")
    for node in alive:
        if node.dropped:
            yield Finding(
                "processes",
                "note",
                f"{node}: {format_count(node.dropped, 'refusal or error', 'refusals and errors')} came too fast to be "
                "recorded.",
                'Raise DECLBIND["TRAFFIC_PER_SECOND"] to record more of them.',
            )
        if node.last_error:
            yield Finding("processes", "bad", f"{node}: {node.last_error}", "Read the log of that process.")


def _errors(using: str) -> Iterator[Finding]:
    recent = Traffic.objects.using(using).filter(kind=Traffic.ERROR, at__gte=timezone.now() - timedelta(hours=1))
    count = recent.count()
    if not count:
        yield Finding("errors", "ok", "No errors in the last hour.")
        return
    last = recent.order_by("-id").first()
    # The message is left out, because the text of an exception may quote a row.
    text = f"{last.stream} {last.outcome}".strip() if last else ""
    yield Finding(
        "errors",
        "bad",
        f"{format_count(count, 'error')} in the last hour, the last one: {text}",
        "Open the live page of the admin, or read the server's log.",
    )

"""The doctor, which examines the running installation and names the remedy for each fault."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

from django.conf import settings as django_settings
from django.db import connections
from django.db.migrations.executor import MigrationExecutor
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext, ngettext

from declbind import checks
from declbind.conf import settings
from declbind.models import Event
from declbind.outbound import history, log, relay, sessions
from declbind.outbound.capture import find_faults
from declbind.outbound.memory_databases import describe_memory
from declbind.outbound.triggers import upkeep
from declbind.registry import load_configuration

from . import process_findings, surroundings, unseen
from .finding import PATIENCE_SECONDS, Finding, Level
from .limits import limited_queries
from .ping import ping
from .withheld import load_withheld


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
        ("server", _server),
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
            ("processes", lambda: process_findings.find_processes(using)),
            ("code", lambda: surroundings.find_old_code(using)),
            ("errors", lambda: process_findings.find_errors(using)),
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
                gettext("Not examined: the examinations before it took all of the time."),
                gettext("Run it again, or run `manage.py declbind doctor`, which has no time limit."),
            )
        ]
    try:
        if left is None:
            return list(part())
        with limited_queries(using, left):
            return list(part())
    except Exception as error:  # A failing examination must not stop the others.
        text = gettext("Could not be examined: %(error)s") % {"error": f"{type(error).__name__}: {error}"}
        return [Finding(name, "bad", text.strip())]


def _migrations(using: str) -> Iterator[Finding]:
    executor = MigrationExecutor(connections[using])
    targets = [key for key in executor.loader.graph.leaf_nodes() if key[0] == "declbind"]
    missing = [migration.name for migration, _ in executor.migration_plan(targets) if migration.app_label == "declbind"]
    if missing:
        text = ngettext(
            "Database %(database)r lacks %(count)s migration: %(names)s.",
            "Database %(database)r lacks %(count)s migrations: %(names)s.",
            len(missing),
        )
        yield Finding(
            "migrations",
            "bad",
            text % {"database": using, "count": len(missing), "names": ", ".join(missing)},
            gettext("Run `manage.py migrate --database %(database)s`.") % {"database": using},
        )
    else:
        yield Finding("migrations", "ok", gettext("Database %(database)r is up to date.") % {"database": using})


def _settings() -> Iterator[Finding]:
    messages = [
        *checks.check_settings(), *checks.check_installation(), *checks.check_sessions(), *checks.check_tokens(),
        *checks.check_tenants(),
    ]  # fmt: skip
    for message in messages:
        level: Level = "bad" if message.is_serious() else "note"
        yield Finding("settings", level, f"{message.id}: {message.msg}", message.hint or "")
    if not messages:
        yield Finding("settings", "ok", gettext("DECLBIND is valid."))
    if django_settings.DEBUG:
        yield Finding(
            "debug",
            "note",
            gettext("DEBUG is on: each database connection of each process keeps its last 9000 statements in memory."),
            gettext("Turn DEBUG off in long-running processes."),
        )


def _server() -> Iterator[Finding]:
    """Yield what is known of the options of the ASGI server, without asking one."""
    for message in [*checks.check_message_size(), *checks.check_origins()]:
        yield Finding("server", "note", f"{message.id}: {message.msg}", message.hint or "")


def _database(using: str) -> Iterator[Finding]:
    connection = connections[using]
    if in_memory := describe_memory(using):
        advice = gettext('Set DATABASES to a file, such as BASE_DIR / "db.sqlite3".')
        yield Finding("database", "bad", str(in_memory), advice)
        return
    for message in checks.check_pool():
        yield Finding("database", "note", f"{message.id}: {message.msg}", message.hint or "")
    if connection.vendor != "sqlite":
        text = gettext("Database %(database)r is %(product)s.")
        yield Finding("database", "ok", text % {"database": using, "product": connection.display_name})
        return
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA journal_mode")
        journal = str(cursor.fetchone()[0]).lower()
    if journal not in ("wal", "memory"):
        yield Finding(
            "SQLite journal",
            "bad",
            gettext("The journal mode is %(mode)r: readers and the writer wait for each other.") % {"mode": journal},
            gettext('Set OPTIONS["init_command"] = "PRAGMA journal_mode=WAL;" in DATABASES.'),
        )
    mode = connection.settings_dict.get("OPTIONS", {}).get("transaction_mode") or "DEFERRED"
    if str(mode).upper() == "DEFERRED":
        yield Finding(
            "SQLite transactions",
            "bad",
            gettext(
                'Transactions are DEFERRED: one that reads and then writes fails at once with "database is locked" '
                "when another has written meanwhile, whatever the timeout."
            ),
            gettext('Set OPTIONS["transaction_mode"] = "IMMEDIATE" in DATABASES.'),
        )
    if journal == "wal" and str(mode).upper() != "DEFERRED":
        text = gettext("Database %(database)r is SQLite with WAL and %(mode)s transactions.")
        yield Finding("database", "ok", text % {"database": using, "mode": str(mode).upper()})


def _channel_layer() -> Iterator[Finding]:
    config = relay.layer_config()
    if config is None or not relay.carries_doorbell():
        text = (
            gettext("There is no channel layer: other processes read the log every %(seconds)s s.")
            if config is None
            else gettext(
                "The in-memory layer reaches no other process: other processes read the log every %(seconds)s s."
            )
        )
        yield Finding("channel layer", "ok", text % {"seconds": f"{settings.POLL_SECONDS:g}"})
        return
    for message in checks.check_channel_layer():
        yield Finding("channel layer", "bad", f"{message.id}: {message.msg}", message.hint or "")
    backend = config["BACKEND"]
    try:
        ping()
    except Exception as error:
        text = gettext(
            "%(layer)s does not answer (%(error)s): nothing is lost, but other processes learn of a change up to "
            "%(seconds)s s later."
        )
        words = {"error": f"{type(error).__name__}: {error}", "seconds": f"{settings.POLL_SECONDS:g}"}
        yield Finding(
            "channel layer",
            "bad",
            text % {"layer": backend, **words},
            gettext("Start the server behind CHANNEL_LAYERS, or correct its address."),
        )
    else:
        yield Finding("channel layer", "ok", gettext("%(layer)s answers.") % {"layer": backend})
    if backend == checks.CORE_LAYER:
        text = gettext(
            "%(layer)s silently drops messages when %(capacity)s wait in a process. declbind loses nothing, but your "
            "own consumers may."
        )
        capacity = (config.get("CONFIG") or {}).get("capacity", 100)
        yield Finding(
            "channel layer",
            "note",
            text % {"layer": backend, "capacity": capacity},
            gettext('Raise CONFIG["capacity"], or use channels_redis.pubsub.RedisPubSubChannelLayer.'),
        )


def _bindings(using: str) -> Iterator[Finding]:
    _, registry = load_configuration(using)
    for entry in registry.entries:
        for problem in entry.problems:
            yield Finding(
                "binding",
                "bad",
                gettext("%(place)s is left out: %(problem)s") % {"place": entry.where, "problem": problem.message},
                gettext("Correct or disable it; `manage.py declbind check` lists all problems."),
            )
    for stream, binding in registry.by_stream.items():
        held = binding.held_names()
        if held:
            text = gettext("%(stream)s: %(model)s got %(fields)s later, which is not sent until it is accepted.")
            advice = gettext("Accept this on the binding's page, or run `manage.py declbind accept %(stream)s`.")
            words = {"stream": stream, "model": binding.model_class()._meta.label, "fields": ", ".join(held)}
            yield Finding("binding", "note", text % words, advice % words)
    count = len(registry.by_stream)
    text = ngettext("%(count)s binding in force.", "%(count)s bindings in force.", count)
    yield Finding("bindings", "ok", text % {"count": count})


def _capture(using: str) -> Iterator[Finding]:
    faults: dict[unseen.Gap, list[str]] = {}
    for stream, gap in unseen.faulty_streams(using):
        faults.setdefault(gap, []).append(stream)
    for gap, streams in faults.items():
        text = gettext("%(streams)s: not captured: %(gap)s")
        yield Finding("capture", "bad", text % {"streams": ", ".join(streams), "gap": gap.text}, gap.action)
    left_over = [state.table for state in upkeep.load_states(using) if state.state == "left over"]
    if left_over:
        text = gettext("Triggers that no binding uses are installed on %(tables)s.")
        yield Finding("capture", "note", text % {"tables": ", ".join(left_over)}, str(unseen.INSTALL))
    held_back = load_withheld(using)
    for stream, text in held_back.items():
        advice = gettext("The values are not sent to anyone. Correct the code or the record.")
        yield Finding("secrets", "bad", f"{stream}: {text}", advice)
    broken = [fault for fault in find_faults() if fault.seam.concerns != "none"]
    for seam_fault in broken:
        yield Finding("capture", "bad", seam_fault.text, seam_fault.action)
    if not settings.CAPTURE_RAW:
        yield Finding(
            "capture",
            "note",
            gettext("What fixtures write is not captured, because CAPTURE_RAW is off."),
            str(unseen.CAPTURE_FIXTURES),
        )
    if not (faults or broken):
        text = gettext("The bindings capture the writes that they are meant to capture.")
        yield Finding("capture", "ok", text)


def _log(using: str) -> Iterator[Finding]:
    head = log.load_head(using)
    text = gettext("Epoch %(epoch)s, offset %(offset)s, the oldest event kept is %(oldest)s (%(count)s in all).") % {
        "epoch": head.epoch,
        "offset": head.offset,
        "oldest": head.min_offset,
        "count": head.offset - head.min_offset + 1,
    }
    yield Finding("log", "ok", text)
    # If ids are the offsets, readers stop at a trigger's mark until it has been converted to events.
    sequenced = history.needs_sequencer(using)
    unread = Q(seq__isnull=True) if sequenced else Q(kind=Event.MARK)
    waiting = Event.objects.using(using).filter(unread)
    oldest = waiting.order_by("id").values_list("created_at", flat=True).first()
    if oldest is None:
        if sequenced:
            yield Finding("sequencer", "ok", gettext("Every event has its number."))
        return
    age = (timezone.now() - oldest).total_seconds()
    text = _waiting(waiting.count(), age, are_events=sequenced)
    if age <= PATIENCE_SECONDS:
        yield Finding("sequencer", "ok", text)
        return
    holder = sessions.describe_holders(using)
    action = (
        gettext("End that session: `SELECT pg_terminate_backend(pid)`.")
        if holder
        else gettext(
            "No process numbers the log, so clients receive nothing. Run an ASGI process, or "
            "`manage.py declbind relay`."
        )
    )
    yield Finding("sequencer", "bad", f"{text} {holder}".strip(), action)


def _waiting(count: int, age: float, *, are_events: bool) -> str:
    if are_events:
        text = ngettext(
            "%(count)s event without a number, the oldest for %(seconds)s s.",
            "%(count)s events without a number, the oldest for %(seconds)s s.",
            count,
        )
    else:
        text = ngettext(
            "%(count)s note of a trigger without a number, the oldest for %(seconds)s s.",
            "%(count)s notes of triggers without a number, the oldest for %(seconds)s s.",
            count,
        )
    return text % {"count": count, "seconds": f"{age:.0f}"}

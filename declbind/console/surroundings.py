"""What the doctor finds around the log: the ASGI application, the code, and the size of snapshots."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import django
from django.apps import apps
from django.db.models import Count
from django.utils import timezone
from django.utils.translation import gettext

from declbind import checks
from declbind.bindings import Binding
from declbind.checks.asgi_mounts import find_mounts
from declbind.conf import settings
from declbind.models import Node
from declbind.registry import get_registry
from declbind.sources.files import record_folders

from .audience import oldest_heartbeat
from .finding import Finding
from .old_code import Present, describe_old_writer
from .times import format_time

#: The share of ``MAX_SNAPSHOT_ROWS`` from which a group counts as large.
LARGE = 0.8
#: Files of the project whose times are read, and folders that are not searched.
MAX_FILES = 2_000
FOREIGN = ("django.", "channels", "declbind", "admin_ui")


def find_application() -> Iterator[Finding]:
    """Yield whether clients can reach a consumer, and whether a middleware knows users."""
    messages = checks.check_application()
    for message in messages:
        yield Finding("application", "bad", f"{message.id}: {message.msg}", message.hint or "")
    mounts = find_mounts()
    if messages:
        return
    if mounts.paths:
        text = (
            gettext("%(application)s serves %(paths)s.")
            if mounts.is_known
            else gettext("%(application)s serves %(paths)s. Parts of it could not be examined.")
        )
        words = {"application": mounts.application, "paths": gettext(" and ").join(mounts.paths)}
        yield Finding("application", "ok", text % words)
    else:
        text = (
            gettext("The ASGI application could not be examined, so it is not known where clients connect.")
            if mounts.application
            else gettext(
                "The ASGI application is not named: settings.ASGI_APPLICATION is not set, so it is not known where "
                "clients connect."
            )
        )
        advice = gettext("Set ASGI_APPLICATION to the application that your server runs.")
        yield Finding("application", "note", text, advice)


def find_classes() -> Iterator[Finding]:
    """Yield the binding classes that are not in force, or not in every process."""
    for message in checks.check_classes():
        yield Finding("classes", "note", f"{message.id}: {message.msg}", message.hint or "")


def find_large_groups(using: str) -> Iterator[Finding]:
    """Yield the groups whose snapshot is near the limit, or above it. Takes one or two queries for each binding."""
    limit = settings.MAX_SNAPSHOT_ROWS
    for stream, binding in get_registry().by_stream.items():
        if not binding.spec().outbound or binding.overrides("group_names", "get_queryset"):
            continue
        rows = binding(using=using).get_queryset().order_by()
        # A group cannot have more rows than the table, and most tables are small.
        if rows[: int(limit * LARGE) + 1].count() <= limit * LARGE:
            continue
        largest = _largest_group(binding, using)
        if largest > limit * LARGE:
            over = largest > limit
            text = (
                gettext(
                    "%(stream)s: a group has %(rows)s rows, and a snapshot may have %(limit)s. Clients are refused "
                    "with `too_large`."
                )
                if over
                else gettext("%(stream)s: a group has %(rows)s rows, and a snapshot may have %(limit)s.")
            )
            advice = gettext('Use smaller groups, or raise DECLBIND["MAX_SNAPSHOT_ROWS"].')
            words = {"stream": stream, "rows": largest, "limit": limit}
            yield Finding("snapshots", "bad" if over else "note", text % words, advice)


def _largest_group(binding: type[Binding], using: str) -> int:
    rows = binding(using=using).get_queryset().order_by()
    largest = 0
    for _, names in binding(using=using).resolved().templates:
        columns = [attname for _, attname in names]
        if columns:
            found = rows.values(*columns).annotate(size=Count("pk")).order_by("-size").values_list("size", flat=True)
            largest = max(largest, found.first() or 0)
        else:
            largest = max(largest, rows.count())
    return largest


def find_old_code(using: str) -> Iterator[Finding]:
    """Yield the processes whose code or configuration is not that of the others, with and without sockets."""
    present = Present.load(using)
    for process in present.processes.live:
        # Versions are reported above, with the time that a process may take to read one.
        if process.fault and process.version == present.processes.version:
            text = gettext("Process %(process)s %(fault)s.") % {"process": process.name, "fault": process.fault}
            yield Finding("code", "bad", text, gettext("Restart it with the present code."))
    for event, age in present.find_old_writers():
        yield Finding(
            "code",
            "bad" if present.should_have_ended(event, age) else "note",
            describe_old_writer(event, age),
            gettext("Restart it if it still runs: what it writes is sent by its old bindings, or not at all."),
        )


def find_changed_files(using: str) -> Iterator[Finding]:
    """Yield the processes of this host that were started before a file of the project was changed."""
    nodes = list(Node.objects.using(using).filter(seen_at__gte=oldest_heartbeat(), host=socket.gethostname()[:200]))
    if not nodes:
        return
    newest = max(_files(), key=lambda path: path.stat().st_mtime, default=None)
    if newest is None:
        return
    changed_at = datetime.fromtimestamp(newest.stat().st_mtime, UTC)
    for node in nodes:
        started_at = node.started_at
        if not timezone.is_aware(started_at):
            started_at = timezone.make_aware(started_at)
        if changed_at > started_at + timedelta(seconds=1):
            text = gettext("%(process)s has run since %(start)s, and %(file)s was changed at %(time)s.") % {
                "process": node,
                "start": format_time(started_at),
                "file": newest,
                "time": format_time(changed_at),
            }
            advice = gettext("Restart the process. Until then it runs the old code and bindings.")
            yield Finding("files", "note", text, advice)


def _files() -> Iterator[Path]:
    """Yield the Python files of the project's apps, and the files of records."""
    count = 0
    for folder in record_folders():
        yield from folder.glob("*.json")
    site = Path(django.__file__).parents[1]
    for config in apps.get_app_configs():
        if config.name.startswith(FOREIGN) or site in Path(config.path).parents:
            continue
        for path in Path(config.path).rglob("*.py"):
            count += 1
            if count > MAX_FILES:
                return
            yield path

"""The doctor's findings about processes: their configuration, their code and their errors."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from django.utils import timezone
from django.utils.translation import gettext, ngettext

from declbind.conf import settings
from declbind.models import Configuration, Node, Traffic

from .finding import PATIENCE_SECONDS, Finding


def find_processes(using: str) -> Iterator[Finding]:
    """Yield how many processes run the present configuration, and their faults."""
    now = timezone.now()
    alive = list(Node.objects.using(using).filter(seen_at__gte=now - timedelta(seconds=3 * settings.HEARTBEAT_SECONDS)))
    if not alive:
        yield Finding(
            "processes",
            "note",
            gettext(
                "No ASGI process has served a socket lately, so no client is connected. A process appears here with "
                "its first socket."
            ),
            gettext("If clients should be connected, start one, such as daphne or uvicorn, and open a page."),
        )
        return
    configuration = Configuration.objects.using(using).filter(pk=1).first()
    generation, version = (configuration.generation, configuration.version) if configuration else ("", 0)
    behind = [node for node in alive if (node.generation, node.version) != (generation, version)]
    patience = timedelta(seconds=settings.HEARTBEAT_SECONDS + PATIENCE_SECONDS)
    late = configuration is not None and now - configuration.changed_at > patience
    one = gettext("%(process)s on %(version)s")
    words = {
        "current": len(alive) - len(behind),
        "count": len(alive),
        "version": version,
        "others": ", ".join(one % {"process": node, "version": node.version} for node in behind),
    }
    if behind:
        text = ngettext(
            "%(current)s of %(count)s process on version %(version)s; %(others)s.",
            "%(current)s of %(count)s processes on version %(version)s; %(others)s.",
            len(alive),
        )
        advice = gettext("Read their last error and restart them.") if late else ""
        yield Finding("processes", "bad" if late else "ok", text % words, advice)
    else:
        text = ngettext(
            "%(current)s of %(count)s process on version %(version)s.",
            "%(current)s of %(count)s processes on version %(version)s.",
            len(alive),
        )
        yield Finding("processes", "ok", text % words)
    for node in alive:
        yield from _process_faults(node)


def _process_faults(node: Node) -> Iterator[Finding]:
    if node.dropped:
        text = ngettext(
            "%(process)s: %(count)s refusal or error came too fast to be recorded.",
            "%(process)s: %(count)s refusals and errors came too fast to be recorded.",
            node.dropped,
        )
        advice = gettext('Raise DECLBIND["TRAFFIC_PER_SECOND"] to record more of them.')
        yield Finding("processes", "note", text % {"process": node, "count": node.dropped}, advice)
    if node.last_error:
        yield Finding("processes", "bad", f"{node}: {node.last_error}", gettext("Read the log of that process."))


def find_errors(using: str) -> Iterator[Finding]:
    """Yield the number of errors in the last hour, with the last one."""
    recent = Traffic.objects.using(using).filter(kind=Traffic.ERROR, at__gte=timezone.now() - timedelta(hours=1))
    count = recent.count()
    if not count:
        yield Finding("errors", "ok", gettext("No errors in the last hour."))
        return
    last = recent.order_by("-id").first()
    # The message is left out, because the text of an exception may quote a row.
    what = f"{last.stream} {last.outcome}".strip() if last else ""
    text = ngettext(
        "%(count)s error in the last hour, the last one: %(error)s",
        "%(count)s errors in the last hour, the last one: %(error)s",
        count,
    )
    advice = gettext("Open the live page of the admin, or read the server's log.")
    yield Finding("errors", "bad", text % {"count": count, "error": what}, advice)

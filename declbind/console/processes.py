"""The processes that serve sockets, the configuration that each of them runs, and their lag."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.utils.translation import gettext

from declbind.models import Configuration, Node
from declbind.outbound import log

from .audience import oldest_heartbeat
from .lag import Lag, load_lag

SHOWN_PROCESSES = 200


@dataclass(frozen=True)
class Process:
    """One process, according to its last heartbeat. ``fault`` is the problem with its configuration, or "".

    ``lag`` is the number of events that it had not delivered at that time, and ``lag_seconds`` the age of the oldest of
    them. Both are ``None`` for a dead process.
    """

    id: str
    host: str
    pid: int
    is_live: bool
    version: int
    digest: str
    code: str
    fault: str
    started_at: datetime
    seen_at: datetime
    connections: int
    subscriptions: int
    offset: int
    lag: int | None
    lag_seconds: float | None
    last_error: str

    @property
    def name(self) -> str:
        """Return host and process number."""
        return f"{self.host}:{self.pid}"

    @property
    def lag_text(self) -> str:
        """Return the lag in words, "" if it is unknown."""
        return "" if self.lag is None else Lag(self.lag, self.lag_seconds or 0.0).text

    def as_json(self) -> dict[str, object]:
        """Return the process as JSON values."""
        return {**vars(self), "lag_seconds": None if self.lag_seconds is None else round(self.lag_seconds, 3)}


@dataclass(frozen=True)
class Processes:
    """All processes, live ones first, and the expected configuration.

    ``head`` is the end of the log. ``usual_code`` is the digest of the code that most live processes run, "" without
    one.
    """

    generation: str
    version: int
    head: int
    processes: tuple[Process, ...]
    usual_code: str = ""

    @property
    def live(self) -> tuple[Process, ...]:
        """Return the processes with a recent heartbeat."""
        return tuple(process for process in self.processes if process.is_live)

    def as_json(self) -> dict[str, object]:
        """Return the processes as JSON values."""
        return {
            "version": self.version,
            "head": self.head,
            "processes": [process.as_json() for process in self.processes],
        }


def load_processes(using: str) -> Processes:
    """Return the processes of the log in database ``using``. Takes three queries, and one for each live process."""
    configuration = Configuration.objects.using(using).filter(pk=1).first()
    generation, version = (configuration.generation, configuration.version) if configuration else ("", 0)
    head = log.load_head(using).offset
    since = oldest_heartbeat()
    nodes = sorted(
        Node.objects.using(using).order_by("-seen_at")[:SHOWN_PROCESSES],
        key=lambda node: (node.seen_at < since, node.host, node.pid, node.started_at),
    )
    live = [node for node in nodes if node.seen_at >= since]
    usual = _most_common(
        [(node.digest, node.started_at) for node in live if (node.generation, node.version) == (generation, version)]
    )
    usual_code = _most_common([(node.code, node.started_at) for node in live if node.code])
    processes = []
    for node in nodes:
        is_live = node.seen_at >= since
        lag = load_lag(node, using) if is_live else None
        processes.append(
            Process(
                id=node.pk,
                host=node.host,
                pid=node.pid,
                is_live=is_live,
                version=node.version,
                digest=node.digest,
                code=node.code,
                fault=_fault(node, generation, version, usual, usual_code) if is_live else "",
                started_at=node.started_at,
                seen_at=node.seen_at,
                connections=node.connections,
                subscriptions=node.subscriptions,
                offset=node.offset,
                lag=lag.events if lag else None,
                lag_seconds=lag.seconds if lag else None,
                last_error=node.last_error,
            )
        )
    return Processes(generation, version, head, tuple(processes), usual_code)


def _fault(node: Node, generation: str, version: int, usual: str, usual_code: str) -> str:
    if node.generation != generation:
        return gettext("runs the configuration of another epoch of the database")
    if node.version != version:
        return gettext("runs version %(found)s instead of %(expected)s") % {"found": node.version, "expected": version}
    if usual and node.digest != usual:
        # The version counts edits of the database; files and classes come with a deployment.
        return gettext("has other bindings than the other processes: its files or code are from another deployment")
    if usual_code and node.code and node.code != usual_code:
        return gettext(
            "has other models or binding classes than the other processes: its code is from another deployment"
        )
    return ""


def _most_common(found: Sequence[tuple[str, datetime]]) -> str:
    """Return the digest that most processes have, or "" if there is nothing to compare.

    ``found`` holds the digest and the start of each process. Of two equally common digests, the one of the process that
    started last is returned.
    """
    counts = Counter(digest for digest, _ in found)
    newest = dict(sorted(found, key=lambda one: one[1]))
    return max(counts, key=lambda digest: (counts[digest], newest[digest]), default="")

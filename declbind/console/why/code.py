"""Processes that run other bindings than the rest: older code, other files, or an older configuration."""

from __future__ import annotations

from collections.abc import Iterator

from declbind.console.processes import load_processes

from .answer import Answer, likely
from .causes import Cause


def explain_old_processes(using: str) -> Iterator[Answer]:
    """Yield the live processes whose bindings are not those of the others."""
    for process in load_processes(using).live:
        if process.fault:
            yield likely(
                Cause.OLD_CODE,
                f"Process {process.name} {process.fault}.",
                "Whether this process wrote the row, or served the user.",
                ("running since", process.started_at),
                ("configuration version", process.version),
                ("hash of its bindings", process.digest),
            )

"""The operations as tasks of `django.tasks` (Django 6.0 and newer), carried out by a `db_worker` process."""

from __future__ import annotations

import time

from django.tasks import TaskResultStatus, task


@task()
def perform_in_worker(name: str, arguments: dict[str, object]) -> object:
    """Perform an operation in a worker."""
    from .operations import perform

    return perform(name, arguments)


def run_task(name: str, arguments: dict[str, object], seconds: float = 60.0) -> object:
    """Let a worker perform an operation, and return its result."""
    result = perform_in_worker.enqueue(name, arguments)
    deadline = time.monotonic() + seconds
    while not result.is_finished:
        if time.monotonic() > deadline:
            raise TimeoutError(f"no worker has performed {name!r} within {seconds:.0f} s")
        time.sleep(0.05)
        result.refresh()
    if result.status != TaskResultStatus.SUCCESSFUL:
        raise RuntimeError(f"the task {name!r} failed: {result.errors}")
    return result.return_value

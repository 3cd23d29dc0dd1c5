"""The operations as Celery tasks, carried out by a prefork worker."""

from __future__ import annotations

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.compat.site.settings")

app = Celery("compat", broker=os.environ.get("COMPAT_BROKER", ""), backend=os.environ.get("COMPAT_BROKER", ""))
app.conf.broker_connection_retry_on_startup = True
app.conf.task_ignore_result = False


@app.task(name="compat.perform")
def perform_in_worker(name: str, arguments: dict[str, object]) -> object:
    """Perform an operation in a worker."""
    from .operations import perform

    return perform(name, arguments)


def run(name: str, arguments: dict[str, object]) -> object:
    """Let a worker perform an operation, and return its result."""
    return perform_in_worker.delay(name, arguments).get(timeout=60)

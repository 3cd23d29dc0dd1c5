"""A management command that saves rows on request, in one long-lived process of its own."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tests.servers import ROOT


class Writer:
    """A handle to the other process, which saves rows."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def save(self, model: str, pk: Any = None, **values: Any) -> Any:
        """Save a row, a new one without ``pk``, and return its key once it is committed."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"model": model, "pk": pk, "values": values}) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


@contextmanager
def start_writer(env: Mapping[str, str | None]) -> Iterator[Writer]:
    """Run ``manage.py save_rows`` with this environment; a value of None removes the key."""
    process = subprocess.Popen(
        [sys.executable, "-m", "django", "save_rows"],
        env={key: value for key, value in env.items() if value is not None},
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.stdout.readline().strip() == "ready"
        yield Writer(process)
    finally:
        process.stdin.close()
        process.wait(10)
        process.stdout.close()

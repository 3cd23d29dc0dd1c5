"""Run the suite in rounds, with the oldest and newest versions, on each database: `python -m tests.rounds [ARGS]`.

An *end* is a Python with the Django that the constraints name for it, in a virtual environment of its own. Most
tests wait for servers and browsers most of the time, so there is one more concurrent round than there are cores.
ARGS are passed to every pytest.

The output of a round is printed when the round is over; until then it is in `test-results/`. The last line is
pytest's own closing line: that of the last round that failed, or of the last round. The exit status is 1 if a round
failed, or if an end has no Python and `CI` is set.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "test-results"
#: pytest's exit status when no test was selected, which `-k` may cause in one round and not in another.
NO_TESTS = 5
#: How many of its slowest tests each round lists.
SLOWEST = 25


@dataclass(frozen=True)
class End:
    """A Python version, and its rounds as `DATABASE:CHOICE`; see `selection.py` for the choices."""

    python: str
    databases: Sequence[str]


@dataclass
class Round:
    """One run of pytest."""

    title: str
    status: int = 1
    output: str = ""
    seconds: float = field(default=0.0)

    @property
    def closing_line(self) -> str:
        """Return the line with which pytest ends."""
        lines = [line for line in self.output.splitlines() if line.strip()]
        return lines[-1] if lines else "no output"

    @property
    def has_failed(self) -> bool:
        """Return whether a test failed, or pytest itself did."""
        return self.status not in (0, NO_TESTS)


#: The oldest and the newest that the metadata names. Rounds that take longest come first.
ENDS = (
    End("3.13", ("sqlite:others", "sqlite:servers", "sqlite:faults", "postgres:core", "mariadb:core")),
    End("3.11", ("postgres", "sqlite:core")),
)


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


class Suite:
    """All rounds of all ends. ``arguments`` are for pytest."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self.arguments = list(arguments)
        self.rounds: list[Round] = []
        self.missing: list[str] = []
        self._lock = threading.Lock()

    def run(self) -> int:
        """Run everything, print it, and return the exit status."""
        ends = [(end, self._environment(end)) for end in ENDS]
        self.missing = [end.python for end, python in ends if python is None]
        found = [(end, python) for end, python in ends if python is not None]
        work = [
            (python, end.databases[place])
            for place in range(max(len(end.databases) for end in ENDS))
            for end, python in found
            if place < len(end.databases)
        ]
        with ThreadPoolExecutor(max_workers=(os.cpu_count() or 1) + 1) as pool:
            for done in [pool.submit(self._run_round, python, database) for python, database in work]:
                done.result()
        return self._summary()

    def _environment(self, end: End) -> str | None:
        """Return the interpreter of an end's virtual environment, which is created if it is missing."""
        made = subprocess.run(
            [str(ROOT / ".ci" / "end"), end.python], stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL,
            check=False,
        )  # fmt: skip
        return made.stdout.strip() if made.returncode == 0 else None

    def _title(self, python: str, database: str) -> str:
        versions = subprocess.run(
            [python, "-c", "import django, platform; print(platform.python_version(), django.__version__)"],
            capture_output=True, text=True, check=True,
        ).stdout.split()  # fmt: skip
        return f"Python {versions[0]}, Django {versions[1]}, {database.replace(':', ' ')}"

    def _run_round(self, python: str, database: str) -> None:
        name, _, choice = database.partition(":")
        title = self._title(python, database)
        this = Round(title)
        started = time.monotonic()
        say(f"==> Begin: {title}")
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / f"{title.lower().replace(', ', '-').replace(' ', '-')}.log"
        with path.open("w") as output:
            this.status = subprocess.run(
                [python, "-m", "pytest", "-p", "no:cacheprovider", f"--durations={SLOWEST}", *self.arguments],
                env={**os.environ, "PYTHONUNBUFFERED": "1", "TEST_DATABASE": name, "TEST_CHOICE": choice},
                cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, check=False,
            ).returncode  # fmt: skip
        this.output = path.read_text(errors="replace")
        this.seconds = time.monotonic() - started
        with self._lock:
            self.rounds.append(this)
            say(f"\n==> {title}: exit status {this.status} after {this.seconds:.0f} s\n{this.output}")

    def _summary(self) -> int:
        say("==> Summary")
        for this in self.rounds:
            say(f"{'FAILED' if this.has_failed else 'passed'}  {this.title}: {this.closing_line.strip('= ')}")
        for python in self.missing:
            say(f"MISSING  Python {python}: install it, or let uv or pyenv do it. This end was NOT tested.")
        failed = [this for this in self.rounds if this.has_failed]
        if self.rounds:
            say((failed or self.rounds)[-1].closing_line)
        return 1 if failed or not self.rounds or (self.missing and os.environ.get("CI")) else 0


if __name__ == "__main__":
    sys.exit(Suite(sys.argv[1:]).run())

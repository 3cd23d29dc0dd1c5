"""Run all guests and write the table of docs/capture.md: `python -m tests.guests [--only NAME ...]`.

This process starts one for each Python and Django of the roster; with `--here` it runs the guests of its own
interpreter. Only a run of all guests writes a table.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys

from tests.servers import ROOT, PostgresServer

from . import table
from .roster import BY_NAME, ENDS, GUESTS
from .runs import Runs, runs_of, this_end


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def run_here(only: list[str]) -> dict[str, dict[str, str]]:
    """Run the guests of this interpreter; return the result of each on each database."""
    chosen = [(guest, database) for guest, database in runs_of(this_end()) if not only or guest.name in only]
    found: dict[str, dict[str, str]] = {}
    with PostgresServer() as postgres, Runs(postgres, chosen) as runs:
        for guest, database in chosen:
            try:
                outcome = runs.result(guest, database)
                problems = [text for texts in outcome.problems.values() for text in texts]
                seconds = f" ({sum(outcome.seconds.values()):.0f} s)"
            except AssertionError as error:  # one failing guest does not stop the others
                problems, seconds = [str(error)], ""
            found.setdefault(guest.name, {})[database] = table.FAILED if problems else table.COMPLETED
            say("\n    ".join([f"{guest.name}, {database}: {found[guest.name][database]}{seconds}", *problems]))
    return found


def run_ends(only: list[str]) -> dict[str, dict[str, str]]:
    """Run each Python and Django in an interpreter of its own."""
    found: dict[str, dict[str, str]] = {}
    for end in ENDS:
        if only and not any(BY_NAME[name].end == end for name in only):
            continue
        say(f"==> Python and Django {end}")
        command = [str(ROOT / ".ci" / "end"), *end.split("/")]
        python = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
        chosen = [word for name in only for word in ("--only", name)]
        command = [python, "-m", "tests.guests", "--here", *chosen]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
        *lines, last = done.stdout.splitlines()
        say("\n".join(lines))
        found |= json.loads(last)
    return found


def main() -> int:
    """Run the chosen guests; the exit status is 1 if a guest failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.guests", description=__doc__)
    parser.add_argument("--only", action="append", default=[], choices=sorted(BY_NAME), help="default: all")
    parser.add_argument("--here", action="store_true", help="run in this interpreter")
    options = parser.parse_args()
    if options.here:
        say(json.dumps(run_here(options.only)))
        return 0
    found = run_ends(options.only)
    if not options.only:
        table.write(table.row_of(guest, found[guest.name]) for guest in GUESTS)
        say(f"==> Wrote {table.PATH.relative_to(ROOT)}")
    return int(any(result == table.FAILED for outcomes in found.values() for result in outcomes.values()))


if __name__ == "__main__":
    sys.exit(main())

"""Run the course in all cells and write the table: `python -m tests.compat [--only TEXT ...]`."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from .backends import Backends
from .cells import CELLS
from .course import Course
from .site_processes import Site


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.compat", description=__doc__)
    parser.add_argument("--only", action="append", default=[], help="cells whose group or name has this text")
    options = parser.parse_args()
    bad = 0
    with tempfile.TemporaryDirectory(prefix="declbind-compat-") as folder, Backends(Path(folder)) as backends:
        for cell in CELLS:
            label = f"{cell.group}: {cell.name}"
            if options.only and not any(text in label for text in options.only):
                continue
            started = time.monotonic()
            try:
                with Site(cell, backends) as site:
                    ready = time.monotonic() - started
                    course = Course(site)
                    course.run()
                say(f"ok    {label} (ready after {ready:.1f} s, all {time.monotonic() - started:.1f} s)")
                say(str({k: round(v, 1) for k, v in course.seconds.items()}))
            except Exception as error:
                bad += 1
                say(f"FAIL  {label} ({time.monotonic() - started:.1f} s)\n{type(error).__name__}: {str(error)[:6000]}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

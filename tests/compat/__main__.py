"""Run the course in all cells and write the table: `python -m tests.compat [--only TEXT ...] [--end 3.13/6.1 ...]`.

Without `--here` this process starts one process for each Python and Django; with it, it runs the cells itself, in the
interpreter that it was started with.
"""

from __future__ import annotations

import argparse
import datetime as dt
import importlib.metadata
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import django

from tests.servers import ROOT

from . import table
from .backends import Backends
from .cells import CELLS, ENDS, Cell, is_run_at
from .course import Course
from .site_processes import Site


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.compat", description=__doc__)
    parser.add_argument("--only", action="append", default=[], help="cells whose group and name have this text")
    parser.add_argument("--end", action="append", choices=ENDS, help="default: all; may be given several times")
    parser.add_argument("--here", action="store_true", help="run in this interpreter")
    return parser.parse_args()


def label(cell: Cell) -> str:
    return f"{cell.group}: {cell.name}"


def is_chosen(cell: Cell, only: list[str]) -> bool:
    return not only or any(text in label(cell) for text in only)


def run_cell(cell: Cell, backends: Backends) -> table.Row:
    """Run one cell and return its row."""
    started = time.monotonic()
    result, database, programs = table.COMPLETED, cell.database, []
    try:
        with Site(cell, backends) as site:
            database, programs = site.perform_elsewhere("database_version"), site.program_versions()
            Course(site).run()
    except Exception as error:  # one failing set-up does not stop the others, and its row says that it failed
        result = table.FAILED
        say(f"{type(error).__name__}: {str(error)[:6000]}")
    say(f"{result:<10} {label(cell)} ({time.monotonic() - started:.0f} s)")
    packages = ", ".join([*(f"{name} {importlib.metadata.version(name)}" for name in cell.packages), *programs])
    return table.Row(
        cell.group, cell.name, packages, database, platform.python_version(), django.__version__, result,
        f"{dt.datetime.now(dt.UTC):%Y-%m-%d}",
    )  # fmt: skip


def run_here(only: list[str]) -> int:
    """Run the cells of this interpreter, and write each row as soon as it is known."""
    end = f"{table.minor(platform.python_version())}/{table.minor(django.__version__)}"
    rows = []
    setups = [(cell.group, cell.name) for cell in CELLS]
    with tempfile.TemporaryDirectory(prefix="declbind-compat-") as folder, Backends(Path(folder)) as backends:
        # Servers that drop root privileges keep their files there.
        os.chmod(folder, 0o777)
        for cell in CELLS:
            if is_run_at(cell, end) and is_chosen(cell, only):
                rows.append(run_cell(cell, backends))
                table.PATH.write_text(table.render(table.merge(table.load(), rows, setups)))
    return sum(row.result != table.COMPLETED for row in rows)


def run_ends(options: argparse.Namespace) -> Iterator[str]:
    """Run each combination of Python and Django in an interpreter of its own; yield those that failed."""
    for end in options.end or ENDS:
        if not any(is_run_at(cell, end) and is_chosen(cell, options.only) for cell in CELLS):
            continue
        say(f"==> Python and Django {end}")
        made = subprocess.run(
            [str(ROOT / ".ci" / "end"), *end.split("/")], stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL,
            check=False,
        )  # fmt: skip
        if made.returncode:
            yield end
            continue
        only = [word for text in options.only for word in ("--only", text)]
        done = subprocess.run(
            [made.stdout.strip(), "-m", "tests.compat", "--here", *only],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        if done.returncode:
            yield end


def main() -> int:
    """Run the chosen cells; the exit status is 1 if a cell failed or an interpreter was not available."""
    options = parse_arguments()
    if options.here:
        return 1 if run_here(options.only) else 0
    failed = list(run_ends(options))
    say(f"Failed or missing: {', '.join(failed)}." if failed else "Every cell completed the course.")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

"""The long form of the siege: `python -m tests.attack.fuzzing [--frames N] [--seed N] [--program NAME]`."""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time

from .siege import Breach, Siege

PROGRAMS = ("uvicorn", "daphne")


def main() -> int:
    """Send frames to each server; the exit status is 1 if one of them did something forbidden."""
    parser = argparse.ArgumentParser(prog="python -m tests.attack.fuzzing", description=__doc__)
    parser.add_argument("--frames", type=int, default=1_000_000, help="for all servers together")
    parser.add_argument("--seed", type=int, help="default: another one each time")
    parser.add_argument("--program", choices=PROGRAMS, action="append", help="default: all")
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(1_000_000) if options.seed is None else options.seed
    programs = options.program or PROGRAMS
    bad = 0
    for program in programs:
        started = time.monotonic()
        with Siege(program, seed) as siege:
            try:
                outcome = asyncio.run(siege.run(options.frames // len(programs)))
            except Breach as breach:
                bad += 1
                sys.stdout.write("\n".join([f"{program}: {breach}", *breach.__notes__, ""]))
                continue
        sys.stdout.write(f"{program}, seed {seed}: {outcome}, {time.monotonic() - started:.0f} s\n")
        sys.stdout.flush()
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

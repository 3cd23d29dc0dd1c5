"""Run a guest inside its project: `python -m tests.guests.run [SABOTAGE]`, in the project's folder.

The last line of the output is JSON: for each capture mode, a list of problems. A sabotage is tried with the hooks
only.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from pathlib import Path


def main(sabotage: str = "") -> None:
    """Set the project up as its manage.py does, migrate it, and run its course."""
    startup = Path("startup.py")
    exec(compile(startup.read_text(), startup, "exec"), {"__name__": "startup"})
    import django

    django.setup()
    from django.core.management import call_command
    from django.db import connection

    from .course import Course, unharmed
    from .roster import CAPTURES
    from .sabotage import SABOTAGES

    started = time.monotonic()
    call_command("makemigrations", "mysite", verbosity=0)
    call_command("migrate", verbosity=0)
    shop = importlib.import_module("mysite.models")
    set_up = time.monotonic() - started
    found, seconds = {}, {"set-up": set_up}
    for capture in CAPTURES[:1] if sabotage else CAPTURES:
        started = time.monotonic()
        course = Course(shop, capture, SABOTAGES.get(sabotage, unharmed))
        found[capture] = course.run()
        course.notes.remove()
        seconds[capture] = time.monotonic() - started
    connection.close()
    sys.stdout.write(json.dumps({"problems": found, "seconds": seconds}) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])

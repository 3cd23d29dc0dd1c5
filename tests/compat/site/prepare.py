"""Make the site's tables, records and triggers: `python -m tests.compat.site.prepare [--triggers]`."""

from __future__ import annotations

import argparse
import sys
from datetime import timedelta
from pathlib import Path

import django
from django.core.management import call_command
from django.utils import timezone

RECORDS = Path(__file__).with_name("records.json")


def main() -> None:
    """Run the management commands that a project's deployment runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--triggers", action="store_true", help="capture readings by triggers")
    options = parser.parse_args()
    django.setup()
    from declbind.models import Event

    from .operations import perform

    call_command("migrate", run_syncdb=True, verbosity=0)
    call_command("declbind", "apply", "--yes", str(RECORDS), stdout=sys.stderr)
    if options.triggers:
        perform("edit_record", {"stream": "readings", "capture": "triggers"})
        call_command("declbind", "triggers", "--install", stdout=sys.stderr)
    # A client that reconnects soon after an edit of the configuration gets a `resync`, which would hide a loss.
    Event.objects.update(created_at=timezone.now() - timedelta(minutes=10))


if __name__ == "__main__":
    main()

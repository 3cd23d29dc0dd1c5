"""Make the tables, the record and the first rows of a fault test's database: `python -m tests.faults.prepare`."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import django
from django.core.management import call_command
from django.utils import timezone

from .writer import ROOMS, SENTINELS, SHARED

RECORD: dict[str, Any] = {
    "stream": "items",
    "model": "faults.Item",
    "fields": ["room", "stamp"],
    "groups": ["items", "room-{room}"],
    "permissions": {"view": True},
}


def main() -> None:
    """Set up Django and fill its database."""
    django.setup()
    from declbind.models import BindingRecord, Event

    from .models import Item

    call_command("migrate", run_syncdb=True, verbosity=0)
    Item._default_manager.bulk_create(
        Item(room=number % ROOMS, stamp=f"p.{number}", text="the first") for number in range(SENTINELS + SHARED)
    )
    BindingRecord.objects.create(**RECORD)
    # Who comes back soon after an edit is told to resync, and a resync would hide what a resume loses.
    Event.objects.update(created_at=timezone.now() - timedelta(minutes=10))


if __name__ == "__main__":
    main()

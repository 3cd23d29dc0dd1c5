"""Make the tables, the records and the first rows of a fault test's database: `python -m tests.faults.prepare`."""

from __future__ import annotations

import io
from datetime import timedelta

import django
from django.core.management import call_command
from django.utils import timezone

from .editor import COUNTERS, EDITORS, session_key
from .writer import ROOMS, SENTINELS, SHARED

RECORD: dict[str, object] = {
    "stream": "items",
    "model": "faults.Item",
    "fields": ["room", "stamp"],
    "groups": ["items", "room-{room}"],
    "capture": "triggers",
    "permissions": {"view": True},
}
COUNTER_RECORD: dict[str, object] = {
    "stream": COUNTERS,
    "model": "faults.Counter",
    "fields": ["value"],
    "permissions": {"view": True},
}


def log_in_editors() -> None:
    """Make the users who may write, each with a session for a cookie."""
    from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
    from django.contrib.auth.models import Permission, User
    from django.contrib.sessions.models import Session

    rights = Permission.objects.filter(content_type__app_label="faults")
    for number in range(EDITORS):
        user = User.objects.create_user(f"editor {number}")
        user.user_permissions.set(rights)
        content = {
            SESSION_KEY: str(user.pk),
            BACKEND_SESSION_KEY: "django.contrib.auth.backends.ModelBackend",
            HASH_SESSION_KEY: user.get_session_auth_hash(),
        }
        Session.objects.save(session_key(number), content, timezone.now() + timedelta(days=1))


def main() -> None:
    """Set up Django and fill its database."""
    django.setup()
    from django.db import connection

    from declbind.models import BindingRecord, Event

    from .models import Counter, Item

    has_triggers = connection.vendor != "mysql"

    call_command("migrate", run_syncdb=True, verbosity=0)
    Item._default_manager.bulk_create(
        Item(room=number % ROOMS, stamp=f"p.{number}", text="the first") for number in range(SENTINELS + SHARED)
    )
    Counter._default_manager.create()
    log_in_editors()
    for record in (RECORD if has_triggers else {**RECORD, "capture": "orm"}, COUNTER_RECORD):
        BindingRecord.objects.create(**record)
    if has_triggers:
        call_command("declbind", "triggers", "--install", stdout=io.StringIO())
    # A client that reconnects soon after an edit gets a resync, which would hide what a resume loses.
    Event.objects.update(created_at=timezone.now() - timedelta(minutes=10))


if __name__ == "__main__":
    main()

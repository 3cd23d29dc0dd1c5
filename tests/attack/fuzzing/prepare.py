"""Make the tables and the first rows of the site: `python -m tests.attack.fuzzing.prepare`."""

from __future__ import annotations

import io
from datetime import timedelta

import django
from django.core.management import call_command
from django.utils import timezone

#: The users, in the order of their keys: the attacker, the owner of rows that must stay, the writer for the witness.
USERS = ("mallory", "victim", "clerk")
#: The value of a column that no client may write.
LOCKED = "locked"
BOARDS, NOTICES, LETTERS = 30, 20, 20


def session_key(name: str) -> str:
    """Return the key of a user's session, as the cookie has it."""
    return f"{name:x<32}"


def main() -> None:
    """Fill an empty database."""
    django.setup()
    call_command("migrate", verbosity=0, run_syncdb=True, stdout=io.StringIO())

    from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
    from django.contrib.auth.models import User
    from django.contrib.sessions.models import Session

    from .models import Board, Letter, Notice, Tick

    for name in USERS:
        user = User.objects.create_user(name, is_staff=name == "clerk")
        content = {
            SESSION_KEY: str(user.pk),
            BACKEND_SESSION_KEY: "django.contrib.auth.backends.ModelBackend",
            HASH_SESSION_KEY: user.get_session_auth_hash(),
        }
        Session.objects.save(session_key(name), content, timezone.now() + timedelta(days=1))
        Letter.objects.bulk_create(Letter(owner=user, text=f"{name} {number}") for number in range(LETTERS))
    Board.objects.bulk_create(Board(text=f"t{number % 5}", count=number) for number in range(BOARDS))
    Notice.objects.bulk_create(Notice(text=f"notice {number}") for number in range(NOTICES))
    Tick.objects.create()


if __name__ == "__main__":
    main()

"""A view that gives a token to the user, and functions that announce changes."""

from collections.abc import Iterable

from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse, HttpResponseForbidden

from declbind import get_registry, recheck, touch
from declbind.tokens import issue
from notes.models import Note


def show_token(request: HttpRequest) -> HttpResponse:
    """Return a token for one stream."""
    if not isinstance(request.user, User):
        return HttpResponseForbidden()
    token: str = issue(request.user, streams=["notes"], lifetime=60)
    return HttpResponse(token, content_type="text/plain")


def announce(room: int) -> int:
    """Announce the notes of a room, and return how many there are."""
    return touch(Note.objects.filter(room=room)) + touch(list(Note.objects.exclude(room=room)))


def withdraw(users: Iterable[User]) -> None:
    """Have the permissions of users checked."""
    recheck(users)


def known_streams() -> list[str]:
    """Return the streams of the registry."""
    return sorted(get_registry().by_stream)

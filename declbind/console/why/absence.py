"""Explanations of a user without a connection at the time of a change."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from django.contrib.auth import get_user_model
from django.db.models import Q
from django.utils.translation import gettext

from declbind.checks.asgi_mounts import Mounts, find_mounts
from declbind.console.shown import shown
from declbind.core.wording import suggest
from declbind.live.socket import PROCESS_ENDED, RESTART, RESTARTING
from declbind.models import Connection, Event, Node, Traffic

from .answer import Answer, cannot_tell
from .causes import Cause

#: How far a refused handshake may lie from the time in question.
HANDSHAKES = timedelta(minutes=10)
#: What a close code means for a connection that missed a later change.
CLOSES = {
    4401: Cause.REVOKED,
    4403: Cause.KICKED,
    4408: Cause.TOO_SLOW,
    4429: Cause.OVER_LIMIT,
    1006: Cause.PROCESS_LOST,
}
#: Reasons of 1012 that no operator gave.
ENDINGS = (RESTARTING, PROCESS_ENDED)
#: Why a handshake was refused, as the traffic records it.
REFUSALS = {"origin": Cause.ORIGIN, "connections": Cause.OVER_LIMIT, "token": Cause.REVOKED, "tenant": Cause.REFUSED}
ANONYMOUS = "anonymous"
#: The number of names that are read in search of a similar one.
MAX_NAMES = 2_000


def is_user(user: str) -> Q:
    """Return the condition on connections of a user, given by name or key, or of anonymous visitors."""
    return Q(user_pk="") if user == ANONYMOUS else Q(username=user) | Q(user_pk=user)


def explain_unknown_user(user: str, using: str) -> Answer | None:
    """Return that there is no such user, neither in the table of users nor among the known connections."""
    if not user or user == ANONYMOUS or shown(Connection, using).filter(is_user(user)).exists():
        return None
    model = get_user_model()
    users = model._default_manager
    if users.filter(**{model.USERNAME_FIELD: user}).exists():
        return None
    try:
        if users.filter(pk=user).exists():
            return None
    except (ValueError, TypeError):
        pass  # no key, so only a name could have been meant
    names = list(users.order_by("-pk").values_list(model.USERNAME_FIELD, flat=True)[:MAX_NAMES])
    near = suggest(user, list(map(str, names)))
    text = gettext("No user has the name or the key %(user)r.") % {"user": user}
    return Answer(Cause.UNKNOWN_USER, f"{text}{near}")


def explain_absence(user: str, connection: str, event: Event, using: str) -> Iterator[Answer]:
    """Yield why the user was not connected."""
    rows = shown(Connection, using)
    rows = rows.filter(pk=connection) if connection else rows.filter(is_user(user))
    before = rows.filter(closed_at__lt=event.created_at).order_by("-closed_at").first()
    if before is not None:
        cause = CLOSES.get(before.close_code or 0, Cause.NOT_CONNECTED)
        if before.close_code == RESTART and before.close_reason not in ENDINGS:
            cause = Cause.KICKED
        text = (
            gettext("The last connection before it was closed with %(code)s: %(reason)s")
            if before.close_reason
            else gettext("The last connection before it was closed with %(code)s.")
        )
        yield Answer(
            cause,
            text % {"code": before.close_code, "reason": before.close_reason},
            ((gettext("closed"), before.closed_at), (gettext("at offset"), before.offset)),
            before.pk,
        )
    else:
        yield from _explain_never_came(user, event, using, has_later=rows.exists())
    yield from _explain_refusals(user, event, using)


def _explain_never_came(user: str, event: Event, using: str, has_later: bool) -> Iterator[Answer]:
    mounts = find_mounts()
    if mounts.is_known and not mounts.paths and not _serves_anyone(using):
        text = gettext("%(application)s leads to no consumer of declbind.") % {"application": mounts.application}
        yield Answer(Cause.NOT_MOUNTED, text)
    elif user != ANONYMOUS and not has_later and _has_no_login(mounts, using):
        others = shown(Connection, using).filter(user_pk="", opened_at__lte=event.created_at)
        open_then = others.exclude(closed_at__lt=event.created_at).count()
        text = gettext("%(application)s passes connections to %(paths)s without a user.") % {
            "application": mounts.application,
            "paths": gettext(" and ").join(mounts.paths),
        }
        evidence = ((gettext("anonymous connections at that time"), open_then),)
        answer = Answer(Cause.NO_LOGIN, text, evidence)
        yield answer if open_then else answer.weaken(gettext("Whether the page opened its WebSocket."))
    where = gettext(" and ").join(mounts.paths)
    advice = ""
    if has_later:
        text = gettext("The first connection of this user came later.")
    elif where:
        text = gettext("No connection of this user has reached declbind, which listens at %(paths)s.")
        advice = gettext(
            "Check in the browser's network tab whether the page opened its WebSocket, and whether the address ends in "
            "%(paths)s. A wrong address never reaches declbind."
        ) % {"paths": where}
        if not shown(Connection, using).exists():
            proxies = gettext(
                "No client has been connected lately: check as well that each proxy before the site passes on the "
                "headers Upgrade and Connection."
            )
            advice = f"{advice} {proxies}"
    else:
        text = gettext("No connection of this user has reached declbind.")
    at = ((gettext("at"), event.created_at),)
    yield Answer(Cause.NOT_CONNECTED, text % {"paths": where}, at, advice=advice)


def _serves_anyone(using: str) -> bool:
    """Return whether some process serves sockets, perhaps with another application than that of the settings."""
    return shown(Connection, using).exists() or Node.objects.using(using).exists()


def _has_no_login(mounts: Mounts, using: str) -> bool:
    if not mounts.is_known or not mounts.paths or mounts.has_login:
        return False
    # A token identifies a user without any middleware.
    return not shown(Connection, using).exclude(user_pk="").exists()


def _explain_refusals(user: str, event: Event, using: str) -> Iterator[Answer]:
    """Yield handshakes near that time that were refused: those of the user, else one of somebody unknown."""
    refused = (
        shown(Traffic, using)
        .filter(
            kind=Traffic.REFUSED,
            outcome__in=REFUSALS,
            at__range=(event.created_at - HANDSHAKES, event.created_at + HANDSHAKES),
        )
        .order_by("-pk")
    )
    mine = None if user in ("", ANONYMOUS) else refused.exclude(user_pk="").filter(is_user(user)).first()
    if mine is not None:
        yield Answer(REFUSALS[mine.outcome], mine.message or gettext("The handshake was refused."), _about(mine))
        return
    unknown = refused.filter(user_pk="").first()
    if unknown is not None:
        yield cannot_tell(
            REFUSALS[unknown.outcome],
            gettext("A handshake of an unknown visitor was refused: %(message)s") % {"message": unknown.message},
            gettext("Whose handshake it was. The user's browser shows the refusal in its network tab."),
            *_about(unknown),
        )


def _about(refusal: Traffic) -> tuple[tuple[str, object], ...]:
    return ((gettext("at"), refusal.at),)

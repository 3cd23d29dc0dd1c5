"""Recorded refusals of a client's request to write the row."""

from __future__ import annotations

from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from declbind.console.shown import shown
from declbind.models import Traffic

from .absence import is_user
from .answer import Answer
from .case import Case
from .causes import Cause
from .question import NEAR

TEXTS = {
    "create": _("The request of %(who)s to create the row was answered with %(code)s: %(message)s"),
    "update": _("The request of %(who)s to update the row was answered with %(code)s: %(message)s"),
    "delete": _("The request of %(who)s to delete the row was answered with %(code)s: %(message)s"),
}


def explain_refused_write(case: Case) -> Answer | None:
    """Return that a request about the row was refused at the time in question.

    The answer is certain only if the question names the connection, as the live page does: others may have written the
    row at the same time.
    """
    question, at = case.question, case.at
    if at is None or case.is_named or not question.row:
        return None
    refused = shown(Traffic, case.using).filter(
        kind=Traffic.REFUSED, stream=question.stream, object_pk=question.row, action__in=tuple(TEXTS),
        at__range=(at - NEAR, at + NEAR),
    )  # fmt: skip
    if question.connection:
        refused = refused.filter(connection=question.connection)
    elif question.user:
        refused = refused.filter(is_user(question.user))
    found = min(refused.order_by("-pk")[:100], key=lambda row: abs(row.at - at), default=None)
    if found is None:
        return None
    who = found.username or gettext("an anonymous client")
    if not found.username and found.user_pk:
        who = gettext("user %(key)s") % {"key": found.user_pk}
    words = {"who": who, "code": found.outcome, "message": found.message}
    answer = Answer(
        Cause.WRITE_REFUSED,
        TEXTS[found.action] % words,
        ((gettext("at"), found.at), (gettext("request"), found.action)),
        found.connection,
        request=found.action,
    )
    doubt = gettext("Whether the change in question is that of this request.")
    return answer if question.connection else answer.weaken(doubt)

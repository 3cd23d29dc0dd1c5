"""Recorded faults of a binding while a write of the row was captured, or its frame was made."""

from __future__ import annotations

from django.db.models import Q
from django.utils.translation import gettext

from declbind.console.shown import shown
from declbind.live.traffic import WITHHELD
from declbind.models import Traffic

from .answer import Answer, likely
from .case import Case
from .causes import Cause
from .question import NEAR, WINDOW


def explain_failure(case: Case) -> Answer | None:
    """Return the fault that was recorded for the row, if no later event of the row replaced it."""
    question = case.question
    keys = {question.row}
    if case.row is not None:
        keys.add(str(case.row.pk))
    if case.event is not None and case.is_named:
        keys.add(case.event.object_pk.strip('"'))
    keys.discard("")
    rows = shown(Traffic, case.using).filter(kind=Traffic.ERROR, stream=question.stream).exclude(outcome=WITHHELD)
    if case.at is not None:
        rows = rows.filter(at__range=(case.at - WINDOW, case.at + WINDOW))
    # A row that could not be read has no key in the record of its fault.
    fault = rows.filter(Q(object_pk__in=keys) | Q(object_pk="")).order_by("-pk").first()
    if fault is None or _is_over(case, fault):
        return None
    evidence = ((gettext("time"), fault.at), (gettext("error"), fault.outcome))
    if not fault.object_pk:
        settle = gettext("The record does not say for which row it failed.")
        return likely(Cause.BINDING_FAILED, fault.message, settle, *evidence)
    if case.at is not None and abs(fault.at - case.at) > NEAR:
        return likely(Cause.BINDING_FAILED, fault.message, gettext("Name the time more exactly."), *evidence)
    return Answer(Cause.BINDING_FAILED, fault.message, evidence)


def _is_over(case: Case, fault: Traffic) -> bool:
    """Return whether another change is meant: it was announced after the fault, or it is the nearer one."""
    event = case.event
    if case.is_named:
        return event is None or abs(event.created_at - fault.at) > NEAR
    if event is None:
        return False
    if case.at is None:
        return event.created_at > fault.at
    return abs(event.created_at - case.at) < abs(fault.at - case.at) and event.created_at > fault.at

"""Whether a user may see the row in question, by the same trial as the "Try it" page."""

from __future__ import annotations

import dataclasses

from django.utils.translation import gettext

from declbind.console import trial
from declbind.core.errors import ConfigError

from .absence import ANONYMOUS
from .answer import Answer
from .case import Case
from .causes import Cause

#: Causes whose reason a trial may know.
TRIED = frozenset({Cause.NOT_SUBSCRIBED, Cause.REFUSED})


def explain_rights(case: Case, answers: list[Answer]) -> list[Answer]:
    """Return answers about a user without a subscription, with what a trial says about the row and the user."""
    question = case.question
    if not question.user or case.binding is None or case.row is None:
        return answers
    if not any(answer.cause in TRIED for answer in answers):
        return answers
    try:
        made = trial.make_trial(
            trial.Question(
                who="" if question.user == ANONYMOUS else question.user,
                stream=question.stream,
                action="view",
                pk=case.row.pk,
                wide=False,
            ),
            case.using,
        )
    except ConfigError:
        return answers
    refusal = made.refusal
    if refusal is None:
        return answers
    label = gettext("tried now: %(check)s") % {"check": refusal.title.lower()}
    evidence: tuple[tuple[str, object], ...] = ((label, refusal.text),)
    if "scope" in refusal.evidence or refusal.name == "scope":
        foreign = Answer(Cause.NOT_THEIRS, refusal.text, evidence)
        if not case.is_unchanged:
            foreign = foreign.weaken(gettext("Whether the row belonged to the user at that time."))
        # "Grant the permission" would not help.
        return [foreign, *(answer for answer in answers if answer.cause not in TRIED)]
    return [
        dataclasses.replace(answer, evidence=(*answer.evidence, *evidence)) if answer.cause in TRIED else answer
        for answer in answers
    ]

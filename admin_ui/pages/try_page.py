"""The page that tries a binding: who may do what, what would be sent to whom, and why. Nothing is changed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from django.contrib.auth import get_user_model
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path
from django.utils.http import urlencode
from django.utils.translation import gettext as _

from admin_ui.common import documents, screen
from admin_ui.common.screen import RecordAdmin
from admin_ui.common.visible import VisibleRows
from admin_ui.traffic.wanted import readable_models
from declbind.console import openings
from declbind.console.assignments import parse_key, parse_object, parse_values
from declbind.console.trial import ACTIONS, INBOUND, Question, Trial, make_trial
from declbind.core.errors import ConfigError, Problem
from declbind.core.shape import shape
from declbind.models import BindingRecord, BindingRevision
from declbind.registry import database_alias, get_registry

SHOWN_USERS = 200
SHOWN_REVISIONS = 25
#: Some servers truncate longer addresses, so the answer is then returned without a redirect.
MAX_ADDRESS = 2000
#: The fields of the address and the form, and their names on other pages.
KEYS = ("who", "stream", "action", "pk", "values", "params", "revision", "as_if_enabled")
OTHER_NAMES = {"who": "user", "pk": "row"}


@dataclass(frozen=True)
class Entered:
    """The form as text. Values that cannot be parsed are reported when a question is made."""

    who: str = ""
    stream: str = ""
    action: str = ""
    pk: str = ""
    values: str = ""
    params: str = ""
    revision: str = ""
    document: str = ""
    as_if_enabled: bool = False
    carry_out: bool = False

    @classmethod
    def read(cls, sent: Mapping[str, str]) -> Entered:
        """Read the fields of an address or a form."""
        texts: Any = {
            key: sent.get(key, sent.get(OTHER_NAMES.get(key, key), "")).replace("\0", "").strip()
            for key in ("who", "stream", "action", "pk", "values", "params", "revision", "document")
        }
        return cls(**texts, as_if_enabled=bool(sent.get("as_if_enabled")), carry_out=bool(sent.get("carry_out")))

    @property
    def address(self) -> str:
        """The query string of the same question."""
        return urlencode({key: value for key in KEYS if (value := getattr(self, key))})

    def question(self) -> Question:
        """Return the fields as a question for a trial.

        Raises:
            ConfigError: A value cannot be parsed.
        """
        if self.revision and not (self.revision.isascii() and self.revision.isdigit() and len(self.revision) < 19):
            raise ConfigError(
                [
                    Problem(
                        "$", _("Expected the number of a revision, got {value}.").format(value=f"{self.revision!r:.40}")
                    )
                ]
            )
        return Question(
            who=self.who,
            stream=self.stream,
            action=self.action,
            pk=parse_key(self.pk),
            values=parse_values(self.values, "values"),
            params=parse_object(self.params, "params") if self.params else None,
            document=documents.parse_record(self.document) if self.document else None,
            revision=int(self.revision) if self.revision and not self.document else None,
            as_if_enabled=self.as_if_enabled,
            carry_out=self.carry_out,
        )


def urls(model_admin: RecordAdmin, prefix: str) -> list[URLPattern]:
    """Return the address of the page."""

    def show(request: HttpRequest) -> HttpResponse:
        return try_view(model_admin, request)

    return [path("try/", model_admin.admin_site.admin_view(show), name=f"{prefix}_try")]


def try_view(model_admin: RecordAdmin, request: HttpRequest) -> HttpResponse:
    """Show the form and the answer: at once for a question in the address, else when the form is submitted.

    A client's write is only tried when the form is submitted. An address with such a question only fills in the form.
    """
    if not model_admin.has_view_permission(request):
        raise PermissionDenied
    is_sent = request.method == "POST"
    entered = Entered.read(request.POST if is_sent else request.GET)
    is_asked = is_sent or (bool(entered.action) and entered.action not in INBOUND)
    if is_sent and entered.action not in INBOUND and not entered.document and len(entered.address) < MAX_ADDRESS:
        return HttpResponseRedirect(f"{request.path}?{entered.address}")
    problems: tuple[Problem, ...] = ()
    made: Trial | None = None
    visible = VisibleRows(model_admin.admin_site, request)
    if is_asked:
        try:
            made = _try(model_admin, request, entered, visible)
        except ConfigError as error:
            problems = error.problems
    return screen.render_page(
        model_admin,
        request,
        "try.html",
        _("Try it"),
        entered=entered,
        actions=ACTIONS.items(),
        streams=sorted({entry.stream for entry in get_registry().entries if entry.stream} | {entered.stream} - {""}),
        revisions=_load_revisions(entered.stream),
        users=_load_users(request),
        may_name_users=screen.may_watch(request.user),
        may_carry_out=model_admin.has_change_permission(request),
        problems=problems,
        hidden_notes=visible.notes,
        trial=made,
        parts=_parts(made, entered) if made is not None else [],
        rows=_rows(made) if made is not None else [],
        ticket=made.as_text() if made is not None else "",
        live_url=_live_url(model_admin, request, entered),
    )


def _try(model_admin: RecordAdmin, request: HttpRequest, entered: Entered, visible: VisibleRows) -> Trial:
    """Make the trial within the viewer's permissions, and record trials as another user."""
    user = request.user
    is_other = bool(entered.who) and entered.who not in (str(user.get_username()), str(user.pk))
    if is_other and not screen.may_watch(user):
        # Checked before any lookup, because the existence of a user is not public either.
        raise _refusal(
            _("Trying as another user requires the permission declbind.view_traffic. Try as yourself or anonymously.")
        )
    if entered.carry_out and not model_admin.has_change_permission(request):
        raise _refusal(_("Carrying out requires the permission to change bindings. Validation alone does not."))
    question = entered.question()
    if question.document is not None:
        _check_document(model_admin, request, entered.stream, question.document)
    elif question.revision is not None or question.as_if_enabled:
        _check_stored(request, question)
    if entered.who and not is_other:
        # By name, because the viewer's own key might be another user's name.
        question = replace(question, who=str(user.get_username()))
    if is_other or (entered.carry_out and question.is_inbound):
        screen.note_in_log(request, entered.stream or _("every binding"), _describe_trial(entered, question))
    readable = readable_models(user).__contains__
    made = make_trial(question)
    visible.load(made.shown_rows)
    made = made.without_values(readable, shape, visible.sees)
    # Viewers of the traffic see who is connected, and the groups of frames.
    return made if screen.may_watch(user) else made.without_names().without_groups(readable, visible.sees)


def _describe_trial(entered: Entered, question: Question) -> str:
    """Return a trial in words, for the admin's log."""
    is_carried_out = entered.carry_out and question.is_inbound
    if entered.pk and is_carried_out:
        words = _("Tried as {who}: {action}, row {row}, carried out and rolled back.")
    elif entered.pk:
        words = _("Tried as {who}: {action}, row {row}.")
    elif is_carried_out:
        words = _("Tried as {who}: {action}, carried out and rolled back.")
    else:
        words = _("Tried as {who}: {action}.")
    return words.format(
        who=entered.who[:150] or _("an anonymous visitor"),
        action=ACTIONS.get(entered.action, entered.action),
        row=entered.pk[:100],
    )


def _check_document(
    model_admin: RecordAdmin, request: HttpRequest, stream: str, document: Mapping[str, object]
) -> None:
    """Refuse a definition that the viewer could not store, because its answer would disclose rows all the same.

    Through its conditions and groups it could ask for any field of any model.
    """
    stored = BindingRecord.objects.using(database_alias()).filter(stream=stream or str(document.get("stream"))).first()
    if not (model_admin.has_change_permission(request, stored) if stored else model_admin.has_add_permission(request)):
        raise _refusal(
            _("Trying an edited record requires the permission to change this binding. Try the stored record.")
            if stored
            else _("Trying an edited record requires the permission to add bindings. Try the stored record.")
        )
    before = stored.definition() if stored else {}
    held = stored.held() if stored else ()
    problems = openings.missing_permissions(request.user, before, document, as_if_enabled=True, held=held)
    if problems:
        raise ConfigError(problems)


def _check_stored(request: HttpRequest, question: Question) -> None:
    """Refuse a revision or a disabled definition that the viewer could not put in force.

    Storing a definition that is not in force requires no permission for what it would open.
    """
    stream, registry = question.stream, get_registry()
    entry = registry.entry(stream) if stream else None
    document = entry.binding.spec().to_dict() if entry is not None and entry.binding is not None else None
    if question.revision is not None:
        revision = BindingRevision.objects.using(database_alias()).filter(pk=question.revision).first()
        stream, document = (revision.stream, revision.definition) if revision is not None else (stream, None)
    if document is None:
        return
    current = registry.by_stream.get(stream)
    before = current.spec().to_dict() if current is not None else {}
    held = entry.binding.held_names() if entry is not None and entry.binding is not None else ()
    problems = openings.missing_permissions(request.user, before, document, as_if_enabled=True, held=held)
    if problems:
        raise ConfigError(problems)


def _rows(made: Trial) -> list[tuple[object, list[tuple[str, str]]]]:
    """Return the rows that the user sees as text. Other values are shown as JSON."""
    shown = made.rows.shown if made.rows is not None else ()
    return [
        (row.pk, [(name, value if isinstance(value, str) else json.dumps(value)) for name, value in row.data.items()])
        for row in shown
    ]


def _parts(made: Trial, entered: Entered) -> list[dict[str, object]]:
    """Return the trials of each binding with their addresses."""
    return [{"trial": part, "address": replace(entered, stream=part.question.stream).address} for part in made.parts]


def _refusal(text: str) -> ConfigError:
    return ConfigError([Problem("$", text)])


def _load_revisions(stream: str) -> list[BindingRevision]:
    if not stream:
        return []
    rows = BindingRevision.objects.using(database_alias()).filter(stream=stream)
    return list(rows[:SHOWN_REVISIONS])


def _load_users(request: HttpRequest) -> list[str]:
    """Return names to choose from: the viewer's own, or, with the permission to try as others, the first users."""
    user = request.user
    if not screen.may_watch(user):
        return [str(user.get_username())]
    model: Any = get_user_model()
    return list(
        model._default_manager.order_by(model.USERNAME_FIELD).values_list(model.USERNAME_FIELD, flat=True)[:SHOWN_USERS]
    )


def _live_url(model_admin: RecordAdmin, request: HttpRequest, entered: Entered) -> str:
    if not screen.may_watch(request.user):
        return ""
    query = {"stream": entered.stream, "row": entered.pk}
    return f"{screen.page_url(model_admin, 'live')}?{urlencode({key: value for key, value in query.items() if value})}"

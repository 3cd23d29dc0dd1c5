"""Pages for the revisions of binding records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import pgettext_lazy

from admin_ui.bindings.undo import rollback_text, rollback_url
from admin_ui.common import documents
from admin_ui.common.read_only import ReadOnlyAdmin
from admin_ui.common.screen import Context
from declbind.console.consequences import Consequence, consequences
from declbind.models import BindingRecord, BindingRevision

SHOWN_REVISIONS = 25


@dataclass(frozen=True)
class Step:
    """One revision, compared with the one before it."""

    revision: BindingRevision
    lines: list[documents.DiffLine]
    verb: str
    items: tuple[Consequence, ...]

    @property
    def is_changed(self) -> bool:
        """Return whether the record differs from the one before."""
        return any(line.kind != "same" for line in self.lines)


def load_steps(stream: str, limit: int = SHOWN_REVISIONS) -> list[Step]:
    """Return the newest revisions of a stream, each compared with the one before. Takes one query."""
    revisions = list(BindingRevision.objects.filter(stream=stream)[: limit + 1])
    before: list[BindingRevision | None] = [*revisions[1:], None]
    # A row that was written without the model has no revision.
    return [_step(new, old) for new, old in zip(revisions, before, strict=False)][:limit]


def _step(new: BindingRevision, old: BindingRevision | None) -> Step:
    previous = old.definition if old is not None else None
    verb = "removed" if new.definition is None else "changed" if previous is not None else "created"
    items: tuple[Consequence, ...] = ()
    if previous != new.definition or (old is not None and old.known != new.known):
        held = BindingRecord(known=old.known).assign(dict(previous)).held() if old is not None and previous else []
        accepted = [name for name in held if name in (new.known or ())]
        items = consequences(previous, new.definition, held=held, accepted=accepted)
    return Step(new, documents.diff(previous, new.definition), verb, items)


def find_restorable(revision: BindingRevision) -> BindingRevision | None:
    """Return the revision that can be restored: the given one, or the one that a removal removed."""
    if revision.definition is not None:
        return revision
    earlier = BindingRevision.objects.filter(stream=revision.stream, pk__lt=revision.pk, definition__isnull=False)
    return earlier.first()


class BindingRevisionAdmin(ReadOnlyAdmin):
    """The revisions of all bindings, including removed ones."""

    list_display = ("stream", "version", "author_name", "note", "created_at")
    list_filter = ("created_at",)
    search_fields = ("stream", "note")
    fields = ("stream", "version", "author_name", "note", "created_at", "change")
    readonly_fields = ("author_name", "change")
    change_form_template = "declbind_admin/revision.html"

    class Media:
        css = {"all": ("declbind_admin/admin.css", "declbind_admin/form.css")}

    def render_change_form(self, request: HttpRequest, context: Context, *args: Any, **kwargs: Any) -> HttpResponse:
        """Offer a rollback to users who may make it."""
        revision = context["original"]
        target = find_restorable(revision)
        exists = BindingRecord.objects.filter(stream=revision.stream).exists()
        action = "change" if exists else "add"
        if target is not None and request.user.has_perm(f"declbind.{action}_bindingrecord"):
            context["rollback_url"] = rollback_url(self.admin_site.name, target)
            context["rollback_text"] = rollback_text(target, exists)
        return super().render_change_form(request, context, *args, **kwargs)

    @admin.display(description=pgettext_lazy("noun", "Change"))
    def change(self, revision: BindingRevision) -> SafeString:
        """Return the comparison with the revision before."""
        old = BindingRevision.objects.filter(stream=revision.stream, pk__lt=revision.pk).first()
        return mark_safe(render_to_string("declbind_admin/step.html", {"step": _step(revision, old)}))

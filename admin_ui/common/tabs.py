"""The tabs of one binding, which stand on its own pages and on the pages that ask about its stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils.translation import gettext as _

from admin_ui.common import screen
from declbind.models import BindingRecord
from declbind.registry import get_registry

#: The last part of the path of each page that asks about a stream, and the tab that it is.
ASKING = {"try": "try", "why": "why", "live": "live"}


@dataclass(frozen=True)
class Tabs:
    """The tabs of a stream."""

    stream: str
    entries: tuple[screen.ConsolePage, ...]


def build_tabs(request: HttpRequest, opts: Any, original: Any, summary: Any, tab: str) -> Tabs | None:
    """Return the tabs for a page, or None for a page that is not about one binding.

    Args:
        request: The request; pages that ask about a stream have it in their address.
        opts: The options of the binding records.
        original: The record that the page is about, or None.
        summary: The summary of a binding from a file or a class, or None.
        tab: The name of the current tab, or "" to tell it from the address.
    """
    stream, record, where = "", None, ""
    if isinstance(original, BindingRecord) and original.pk:
        record, stream = original.pk, BindingRecord.objects.values_list("stream", flat=True).get(pk=original.pk)
    elif summary is not None:
        stream, where = summary.stream, summary.where
    else:
        tab = ASKING.get(request.path.rstrip("/").rpartition("/")[2], "")
        sent = request.POST if "stream" in request.POST else request.GET
        stream = screen.read_text(sent, "stream", 64) if tab else ""
        entry = get_registry().entry(stream) if stream else None
        if entry is None:
            return None
        if entry.source == "database":
            record = BindingRecord.objects.filter(stream=stream).values_list("pk", flat=True).first()
        else:
            where = entry.where
    entries = tuple(_entries(request, opts, stream, record, where, tab))
    return Tabs(stream or where, entries) if len(entries) > 1 else None


def _entries(request: HttpRequest, opts: Any, stream: str, record: Any, where: str, tab: str) -> Any:
    def address(page: str, *args: Any) -> str:
        site = getattr(request, "current_app", None)
        try:
            return reverse(f"admin:{opts.app_label}_{opts.model_name}_{page}", args=args, current_app=site)
        except NoReverseMatch:
            return ""

    user: Any = request.user
    query = urlencode({"stream": stream})
    may_view = user.has_perm("declbind.view_bindingrecord") or user.has_perm("declbind.change_bindingrecord")
    offered = [
        ("overview", _("Overview"), (address("overview", record) if record else address("elsewhere", where)), may_view),
        (
            "edit",
            _("Edit"),
            address("change", record) if record else "",
            user.has_perm("declbind.change_bindingrecord"),
        ),
        ("try", _("Try it"), f"{address('try')}?{query}", may_view),
        ("why", _("Why?"), f"{address('why')}?{query}", screen.may_watch(user)),
        ("live", _("Live"), f"{address('live')}?{query}", screen.may_watch(user)),
        ("history", _("History"), address("history", record) if record else "", may_view),
    ]
    for name, label, url, is_allowed in offered:
        if url and is_allowed and (stream or name == "overview"):
            yield screen.ConsolePage(label, url, name == tab)

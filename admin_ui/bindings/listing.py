"""Data that the list of bindings shows beside the records, loaded once a request for any number of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from django.apps import apps
from django.contrib.admin.templatetags.admin_urls import add_preserved_filters
from django.http import HttpRequest

from admin_ui.common import screen
from admin_ui.common.screen import RecordAdmin
from admin_ui.common.spread import Spread, load_spread
from declbind.console.unseen import Gap, load_faults
from declbind.console.usage import Usage, load_usage
from declbind.console.withheld import load_withheld
from declbind.registry import database_alias, get_registry

#: The number of models that an empty list suggests.
SHOWN_MODELS = 8


@dataclass(frozen=True)
class Surroundings:
    """The spread of the configuration, the use of each stream, and the pages that the viewer may open."""

    spread: Spread
    usage: Mapping[str, Usage]
    links: Mapping[str, str]
    #: By stream, the kinds of write that a binding in force is meant to capture and does not.
    faults: Mapping[str, Sequence[Gap]]
    #: By stream, the values of its code that are held back, in words.
    withheld: Mapping[str, str] = field(default_factory=dict)
    #: The list's own filters, for the link back to it.
    preserved: str = ""

    def overview_url(self, model_admin: RecordAdmin, pk: object) -> str:
        """Return the address of a record's overview, with the list's filters for the way back."""
        url = screen.page_url(model_admin, "overview", pk)
        return add_preserved_filters({"opts": model_admin.opts, "preserved_filters": self.preserved}, url)

    def usage_of(self, stream: str) -> Usage:
        """Return the use of a stream."""
        return self.usage.get(stream, Usage())


def load_surroundings(model_admin: RecordAdmin, request: HttpRequest) -> Surroundings:
    """Return the data for this request. Takes four queries the first time; five with triggers."""
    known: Surroundings | None = getattr(request, "_declbind_surroundings", None)
    if known is None:
        spread = load_spread()
        links = {}
        if screen.may_watch(request.user):
            links = {"live": screen.page_url(model_admin, "live"), "why": screen.page_url(model_admin, "why")}
        if screen.may_view_connections(request.user):
            links["connections"] = screen.page_url(model_admin, "connections")
        usage = load_usage(spread.nodes, database_alias())
        faults = load_faults(database_alias())
        withheld = load_withheld(database_alias())
        known = Surroundings(spread, usage, links, faults, withheld, model_admin.get_preserved_filters(request))
        request._declbind_surroundings = known  # type: ignore[attr-defined]
    return known


def models_to_begin_with() -> list[str]:
    """Return the first unbound models of the project's own apps."""
    bound = get_registry().by_model
    labels = [
        model._meta.label
        for model in apps.get_models()
        if not model.__module__.startswith("django.")
        and model._meta.app_label not in ("declbind", "declbind_admin")
        and not model._meta.swapped
        and model._meta.label_lower not in bound
    ]
    return labels[:SHOWN_MODELS]


def find_streams(text: str) -> set[str]:
    """Return the streams in force whose sent fields or groups contain each word of a search.

    The columns of a record hold its own text; only the registry knows which fields "all fields" includes.
    """
    words = text.lower().split()
    found = set()
    for stream, binding in get_registry().by_stream.items():
        names = [field.name for field in binding.bound_fields()]
        known = " ".join((*names, *binding.spec().groups)).lower()
        if words and all(word in known for word in words):
            found.add(stream)
    return found

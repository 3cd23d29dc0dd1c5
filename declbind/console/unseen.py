"""The writes that a binding does not capture: kinds of write without events, and writes found by the detector."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import connections
from django.db.models import deletion
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from declbind.bindings import Binding
from declbind.checks import foreign_database
from declbind.conf import settings
from declbind.core.errors import Problem
from declbind.django_types import through_of
from declbind.models import UnseenWrite
from declbind.outbound import tenants
from declbind.outbound.capture import find_faults
from declbind.outbound.index import current_index
from declbind.outbound.seam_checks import SeamFault
from declbind.outbound.triggers import tables, upkeep

from .times import format_time

#: The class (since Django 6.1) of an ``on_delete`` that the database carries out.
_BY_DATABASE: Any = getattr(deletion, "DatabaseOnDelete", ())

#: The maximum number of places in the code that are listed, latest first.
MAX_NOTICED = 200
INSTALL = _("Run `manage.py declbind triggers --install`.")
CAPTURE_FIXTURES = _(
    'Set DECLBIND["CAPTURE_RAW"] = True, or announce the rows with declbind.touch(queryset) after loaddata.'
)
#: The kinds of write that a table's triggers do not mark, by the state of the triggers.
UNMARKED = {
    "missing": _("Raw SQL and other programs that %(verbs)s rows of table %(table)s: its triggers are missing."),
    "disabled": _("Raw SQL and other programs that %(verbs)s rows of table %(table)s: its triggers are disabled."),
}
VERBS = {
    "insert": _("insert"),
    "update": _("update"),
    "delete": _("delete"),
    "replace": _("replace"),
    "truncate": _("truncate"),
}


@dataclass(frozen=True)
class Gap:
    """One kind of write that a binding does not capture, and advice.

    ``is_fault`` says whether the binding should capture it.
    """

    text: str
    action: str
    is_fault: bool = False

    def as_problem(self, stream: str) -> Problem:
        """Return the warning for a check."""
        text = gettext("Binding %(stream)r does not capture: %(gap)s %(action)s")
        return Problem("$.capture", text % {"stream": stream, "gap": self.text, "action": self.action})

    def as_json(self) -> dict[str, object]:
        """Return the gap as JSON values."""
        return {"text": self.text, "action": self.action, "fault": self.is_fault}


@dataclass(frozen=True)
class Known:
    """The known state of all tables: their triggers, the detected writes without an event, and faulty hooks."""

    states: Sequence[upkeep.TableState]
    noticed: Sequence[UnseenWrite]
    seam_faults: Sequence[SeamFault] = ()

    @classmethod
    def load(cls, using: str, bindings: Iterable[type[Binding]]) -> Known:
        """Load the state that concerns bindings. Takes one query, and another one if a binding needs triggers."""
        noticed = UnseenWrite.objects.using(using).order_by("-last_at")[:MAX_NOTICED]
        states = upkeep.load_states(using) if any(map(wants_triggers, bindings)) else ()
        return cls(states, list(noticed), list(find_faults()))

    def states_of(self, binding: type[Binding]) -> list[upkeep.TableState]:
        """Return the states of the triggers of a binding's tables."""
        return [state for state in self.states if binding.stream in state.streams]


def wants_triggers(binding: type[Binding]) -> bool:
    """Return whether a binding should capture more than ORM writes."""
    return binding.spec().outbound and binding.spec().capture == "triggers"


def find_gaps(binding: type[Binding], using: str, known: Known | None = None) -> list[Gap]:
    """Return the gaps of a binding in force, faults first."""
    if not binding.spec().outbound:
        return []
    known = known or Known.load(using, [binding])
    found = [
        *_tenant_gaps(using),
        *_gaps(binding, using, known),
        *_hook_gaps(binding, known),
        *_noticed_gaps(binding, known),
    ]
    return sorted(found, key=lambda gap: not gap.is_fault)


def _tenant_gaps(using: str) -> Iterator[Gap]:
    """Yield the writes that are not sent because the tenants of rows cannot be determined."""
    if tenants.are_mixed(using):
        yield Gap(
            gettext(
                "The rows of each write: the database switches schemas, and the tenant of a row is not known. "
                "Subscribers are sent a `resync` in their place."
            ),
            gettext('See the system check declbind.E008 and DECLBIND["TENANT"].'),
            is_fault=True,
        )


def _hook_gaps(binding: type[Binding], known: Known) -> Iterator[Gap]:
    """Yield the kinds of write that are not captured because a method of Django was changed or replaced.

    A table that triggers report needs no hooks.
    """
    states = known.states_of(binding)
    if states and all(state.is_well for state in states):
        return
    concerns = {"all"}
    if binding.model_class()._meta.all_parents:
        concerns.add("children")
    if binding.list_fields():
        concerns.add("lists")
    for fault in known.seam_faults:
        if fault.seam.concerns in concerns:
            yield Gap(fault.text, fault.action, is_fault=True)


def _noticed_gaps(binding: type[Binding], known: Known) -> Iterator[Gap]:
    """Yield the writes to the binding's tables that the detector found."""
    lists = map(through_of, binding.list_fields())
    own = {model._meta.db_table for model in (*tables.table_models(binding.model_class()), *lists)}
    captured = {state.table for state in known.states if state.is_well and binding.stream in state.streams}
    for write in known.noticed:
        if write.table in own - captured:
            text = gettext("%(verb)s of table %(table)s at %(place)s: %(count)s times, last at %(time)s.") % {
                "verb": write.verb,
                "table": write.table,
                "place": write.location or gettext("places beyond the limit"),
                "count": write.count,
                "time": format_time(write.last_at),
            }
            advice = gettext(
                "Write by the ORM's methods, announce the rows with declbind.touch(queryset), or let database triggers "
                "capture writes to the table."
            )
            yield Gap(text, advice, is_fault=True)


def _gaps(binding: type[Binding], using: str, known: Known) -> Iterator[Gap]:
    options: Any = binding.model_class()._meta
    alias = foreign_database(binding)
    if alias:
        text = gettext("Every write: %(model)s is written to database %(database)r, the log is in %(log)r.")
        advice = gettext("Route app 'declbind' to the database of the bound models.")
        yield Gap(text % {"model": options.label, "database": alias, "log": using}, advice, is_fault=True)
        return
    if not settings.CAPTURE_RAW:
        yield Gap(gettext("What fixtures write (loaddata), because CAPTURE_RAW is off."), str(CAPTURE_FIXTURES))
    others = [other for other in connections if other != using]
    if others:
        text = gettext("Writes to another database of the settings (%(databases)s) by using().")
        advice = gettext("Write %(model)s to %(database)r only.")
        yield Gap(
            text % {"databases": ", ".join(map(repr, others))}, advice % {"model": options.label, "database": using}
        )
    announce = gettext("Announce the rows with declbind.touch(queryset).")
    if binding.spec().capture != "triggers":
        has_triggers = upkeep.is_supported(using)
        by_triggers = gettext(
            "Let database triggers capture them, which the binding has to say, and run "
            "`manage.py declbind triggers --install`. Or announce the rows with declbind.touch(queryset)."
        )
        yield Gap(gettext("Raw SQL and other programs."), by_triggers if has_triggers else announce)
        yield from _cascades(binding, has_triggers)
    elif not upkeep.is_supported(using):
        text = gettext("Raw SQL and other programs: there are no triggers for %(product)s.")
        yield Gap(text % {"product": connections[using].display_name}, announce, is_fault=True)
    else:
        yield from _trigger_gaps(binding, using, known)


def _trigger_gaps(binding: type[Binding], using: str, known: Known) -> Iterator[Gap]:
    stream = binding.stream
    for state in known.states:
        if stream not in state.streams or state.is_well:
            continue
        if state.state == "outdated":
            text = gettext("The triggers of table %(table)s are older than the binding or the table.")
        else:
            text = str(UNMARKED[state.state])
        verbs = ", ".join(str(VERBS[verb]) for verb in state.unmarked)
        yield Gap(text % {"table": state.table, "verbs": verbs}, str(INSTALL), is_fault=True)


def _cascades(binding: type[Binding], has_triggers: bool) -> Iterator[Gap]:
    """Yield the deletes and updates that the database itself cascades (``DB_CASCADE`` etc., since Django 6.1)."""
    for model in tables.table_models(binding.model_class()):
        for field in model._meta.local_concrete_fields:
            action = getattr(field.remote_field, "on_delete", None)
            if isinstance(action, _BY_DATABASE):
                text = gettext("Changes by the database when a row is deleted that %(field)r points to (%(action)s).")
                advice = (
                    gettext("Let database triggers capture them, or let Django do it.")
                    if has_triggers
                    else gettext("Let Django do it.")
                )
                yield Gap(text % {"field": field.name, "action": action}, advice, is_fault=True)


def forget(using: str) -> None:
    """Clear the detected writes; those that still happen are detected again."""
    UnseenWrite.objects.using(using).all().delete()


def faulty_streams(using: str) -> Iterator[tuple[str, Gap]]:
    """Yield the gaps that are faults, each with a stream that has it."""
    bindings = current_index().registry.by_stream.values()
    known = Known.load(using, bindings)
    for binding in bindings:
        for gap in find_gaps(binding, using, known):
            if gap.is_fault:
                yield str(binding.stream), gap


def load_faults(using: str) -> dict[str, list[Gap]]:
    """Return the gaps that are faults, by stream."""
    faults: dict[str, list[Gap]] = {}
    for stream, gap in faulty_streams(using):
        faults.setdefault(stream, []).append(gap)
    return faults

"""Steps about the events of writes in a schema."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from django.db import connection, transaction

from declbind import touch
from declbind.outbound import catalog
from declbind.testing import capture_events, override_bindings
from tests.tenants.site import (
    INVOICES,
    TAGGED,
    TENANTS,
    Invoice,
    Line,
    Result,
    Tag,
    clear,
    step,
    texts_of,
    within,
    write,
)


def _events(name: str, act: Callable[[Any], Any], *, is_atomic: bool) -> Any:
    clear()
    with within(name):
        invoice = Invoice.objects.create(text=f"of {name}")
        Line.objects.create(invoice=invoice, text="x")
        Tag.objects.create(word="x")
        with override_bindings(INVOICES, TAGGED), capture_events() as events:
            if is_atomic:
                with transaction.atomic():
                    act(invoice)
            else:
                act(invoice)
    return events


def _save(invoice: Any) -> None:
    invoice.room = "other"
    invoice.save()


ACTS: dict[str, Callable[[Any], Any]] = {
    "create": lambda invoice: Invoice.objects.create(text=invoice.text),
    "save": _save,
    "update": lambda invoice: Invoice.objects.update(room="other"),
    "bulk_update": lambda invoice: Invoice.objects.bulk_update([invoice], ["text"]),
    "bulk_create": lambda invoice: Invoice.objects.bulk_create([Invoice(text=invoice.text)] * 2),
    "delete": lambda invoice: invoice.delete(),
    "cascade": lambda invoice: Invoice.objects.all().delete(),
    "list": lambda invoice: invoice.tags.add(1),
    "child": lambda invoice: Line.objects.update(text="y"),
    "touch": lambda invoice: touch(Invoice.objects.all()),
}


@step
def each_event_has_the_tenant_of_its_write() -> Result:
    seen, expected = {}, {}
    for place, name in enumerate(TENANTS):
        for act, function in ACTS.items():
            events = _events(name, function, is_atomic=bool(place))
            texts = {event.data["text"] for event in events if event.data}
            seen[name, act] = sorted({event.tenant for event in events}), sorted(texts)
            expected[name, act] = [name], [f"of {name}"]
    return list(map(repr, seen.items())), list(map(repr, expected.items()))


@step
def a_transaction_may_switch_tenants() -> Result:
    with override_bindings(INVOICES), capture_events() as events, transaction.atomic():
        for name in TENANTS:
            write(name)
        with within("acme"):
            Invoice.objects.update(text="again")
    found = [(event.tenant, event.pk, event.data["text"]) for event in events]
    return found, [("acme", 1, "of acme"), ("beta", 1, "of beta"), ("acme", 1, "again")]


@step
def rolled_back_writes_leave_no_events() -> Result:
    def write_and_fail() -> None:
        with transaction.atomic():
            write("acme")
            with within("beta"), transaction.atomic():
                Invoice.objects.create(text="x")
                raise ZeroDivisionError

    with override_bindings(INVOICES), capture_events() as events, contextlib.suppress(ZeroDivisionError):
        write_and_fail()
    return [(event.tenant, event.data) for event in events], []


@step
def a_write_succeeds_without_access_to_the_log() -> Result:
    """Write where the search path lacks the public schema: the process logs once that nothing is captured."""
    with override_bindings(INVOICES), capture_events() as events:
        connection.set_schema("acme", include_public=False)  # type: ignore[attr-defined]
        with transaction.atomic():
            Invoice.objects.create(text="alone")
            Invoice.objects.create(text="alone too")
        connection.set_schema_to_public()  # type: ignore[attr-defined]
        write("acme", "told")
    return ([event.data["text"] for event in events], texts_of("acme")), (["told"], ["alone", "alone too", "told"])


@step
def triggers_of_a_table_are_found_in_its_schema() -> Result:
    """Send the stored value where a trigger of one schema changes what is stored."""
    rows = {name: write(name, "x") for name in TENANTS}
    with within("beta"), connection.cursor() as cursor:
        cursor.execute(
            "CREATE FUNCTION beta.shout() RETURNS trigger LANGUAGE plpgsql AS "
            "'BEGIN NEW.text := upper(NEW.text); RETURN NEW; END'"
        )
        cursor.execute(
            "CREATE TRIGGER shout BEFORE INSERT OR UPDATE ON beta.shop_invoice"
            " FOR EACH ROW EXECUTE FUNCTION beta.shout()"
        )
    with override_bindings(INVOICES), capture_events() as events:
        for name, row in [*rows.items()] * 3:
            catalog._answers.clear()
            with within(name):
                # The first statement in this schema is the one that saves.
                row.save()
    with within("beta"), connection.cursor() as cursor:
        cursor.execute("DROP FUNCTION beta.shout() CASCADE")
    return [event.data["text"] for event in events], ["x", "X"] * 3

"""A process that writes in two schemas, and prints the contents of the log and the checks as JSON."""

from __future__ import annotations

import json
import sys

import django
from django.core.checks import run_checks
from django.core.management import call_command
from django.db import DatabaseError, connection, transaction

django.setup()

from declbind.models import Event, Traffic  # noqa: E402 - the models need the apps
from declbind.outbound import log, tenants  # noqa: E402
from declbind.testing import override_bindings  # noqa: E402
from tests.zoo.models import Keeper  # noqa: E402

KEEPERS = {"stream": "keepers", "model": "zoo.Keeper", "fields": ["name"], "groups": ["named-{name}"]}


def found_since(first: int) -> list[object]:
    events = Event.objects.filter(pk__gt=first).exclude(kind="control").order_by("pk")
    return [[event.stream, event.kind, json.loads(event.changes), event.data] for event in events]


def last() -> int:
    event = Event.objects.order_by("pk").last()
    return 0 if event is None else event.pk


def write_in(schema: str) -> None:
    connection.set_schema(schema)  # type: ignore[attr-defined]
    keeper = Keeper.objects.create(name=f"of {schema}")
    keeper.name = f"again of {schema}"
    keeper.save()
    Keeper.objects.update(retired=True)


def rows_in(schema: str) -> list[str]:
    connection.set_schema(schema)  # type: ignore[attr-defined]
    return list(Keeper.objects.order_by("pk").values_list("name", flat=True))


if "mixing" in sys.argv:  # negative control
    tenants.are_mixed = lambda using: False
call_command("migrate", verbosity=0, run_syncdb=True, skip_checks=True)
for name in ("acme", "beta"):
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE SCHEMA {name}")
        cursor.execute(f"CREATE TABLE {name}.zoo_keeper (LIKE public.zoo_keeper INCLUDING ALL)")
said: dict[str, object] = {
    "checks": [message.id for message in run_checks() if str(message.id).startswith("declbind.E")]
}
with override_bindings(KEEPERS):
    first = last()
    log._migrated.clear()
    for name in ("acme", "beta"):
        write_in(name)
    said["events"] = found_since(first)
    said["faults"] = Traffic.objects.filter(kind=Traffic.ERROR, stream="keepers").count()
    # The log is out of reach, and is known to be in reach: what is written is stored all the same.
    first = last()
    connection.set_schema("acme", includes_public=False)  # type: ignore[attr-defined]
    try:
        with transaction.atomic():
            Keeper.objects.create(name="alone")
            Keeper.objects.create(name="alone too")
        said["failure"] = ""
    except DatabaseError as error:
        said["failure"] = str(error)
    said["rows"] = {name: rows_in(name) for name in ("acme", "beta", "public")}
    said["events alone"] = found_since(first)
sys.stdout.write(f"{json.dumps(said)}\n")

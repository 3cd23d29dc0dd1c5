"""A course of steps on a site with django-tenants, whose tenants have equal keys; its results are printed.

``python -m tests.tenants.course build`` makes the database. Without ``build``, all steps are taken, or those that are
named. The argument ``sabotage=NAME`` breaks one thing first. The output is JSON: what each step saw and expected.
"""

from __future__ import annotations

import json
import sys
import traceback
from importlib import import_module

import django
from django.core.management import call_command

django.setup()

from django.contrib.auth.models import User  # noqa: E402 - the models need the apps
from django.core.checks import ERROR, run_checks  # noqa: E402
from django.db import connection  # noqa: E402
from django_tenants.utils import schema_context  # noqa: E402

from tests.tenants.sabotage import sabotage  # noqa: E402
from tests.tenants.site import STEPS, TENANTS, Domain, Tenant, clear  # noqa: E402

#: The modules with steps, in the order in which the steps are taken.
MODULES = ("delivery", "capture", "client_writes", "sessions", "revocation", "tokens", "console")
for module in MODULES:
    import_module(f"tests.tenants.{module}")


def build() -> None:
    """Make the schemas, their tables, and the users with pk 1."""
    call_command("migrate_schemas", shared=True, verbosity=0, interactive=False)
    for name in ("public", *TENANTS):
        tenant = Tenant(schema_name=name, name=name)
        tenant.save(verbosity=0)
        Domain.objects.create(domain=f"{name}.example.org", tenant=tenant, is_primary=True)
    for name in ("public", *TENANTS):
        with schema_context(name):
            User.objects.get_or_create(pk=1, defaults={"username": f"of {name}", "password": f"!{name}"})


def main(arguments: list[str]) -> dict[str, object]:
    """Take steps; return what each saw and expected, or the error."""
    broken = next((word.partition("=")[2] for word in arguments if word.startswith("sabotage=")), "")
    names = [word for word in arguments if "=" not in word] or list(STEPS)
    sabotage(broken)
    found: dict[str, object] = {}
    for name in names:
        clear()
        connection.set_schema_to_public()  # type: ignore[attr-defined]
        try:
            seen, expected = STEPS[name]()
            found[name] = {"seen": seen, "expected": expected}
        except Exception:
            found[name] = {"seen": traceback.format_exc(), "expected": ""}
    return found


if __name__ == "__main__":
    if sys.argv[1:] == ["build"]:
        build()
    elif sys.argv[1:] == ["check"]:
        ids = [str(message.id) for message in run_checks() if message.is_serious(ERROR)]
        sys.stdout.write(f"{json.dumps([id_ for id_ in ids if id_.startswith('declbind')])}\n")
    else:
        sys.stdout.write(f"{json.dumps(main(sys.argv[1:]))}\n")
        sys.stdout.flush()
        import os

        os._exit(0)  # the threads of hubs whose loops are over

"""System checks: faults of the configuration, and how to correct them.

Each module checks one subject: ``settings``, ``asgi``, ``bindings``, ``databases``, ``layers``, ``sessions``,
``installation``, ``tenants``, ``tokens`` and ``seams``. To add a check, write a function ``check_<noun>`` that returns
messages, each with a hint, register it in ``install()``, and add its id to ``CHECKS`` and to ``docs/checks.md``.

Errors are mistakes in the settings. A faulty binding is only a warning, because an error would prevent ``migrate``,
which may be the command that corrects it. Only checks with the ``database`` tag make queries.
"""

from __future__ import annotations

from django.core.checks import Tags, register

from .asgi import check_application
from .bindings import check_bindings, check_classes, check_records, foreign_database
from .databases import check_memory_database, check_pool, check_tables, check_triggers
from .installation import check_installation
from .layers import CORE_LAYER, WORKING_HOST, check_channel_layer
from .seams import check_seams
from .sessions import check_sessions
from .settings import check_message_size, check_origins, check_settings
from .tenants import check_tenants
from .tokens import check_tokens

#: The meaning of each id. The documentation lists the same ids.
CHECKS = {
    "declbind.E001": "DECLBIND is not a dict",
    "declbind.E002": "DECLBIND has an unknown key",
    "declbind.E003": "a key of DECLBIND has a wrong value",
    "declbind.E004": "a serializer cannot be imported",
    "declbind.E005": "a folder of RECORD_DIRS does not exist",
    "declbind.E006": "CHANNEL_LAYER names no channel layer",
    "declbind.E008": "a database switches schemas for tenants",
    "declbind.E009": "RIGHTS_MODELS names a model that is not installed",
    "declbind.E010": "AUTHENTICATE cannot be used",
    "declbind.E011": "JWT cannot be used",
    "declbind.E012": "TENANT names no class that determines tenants",
    "declbind.E013": "declbind's tables are not shared by all tenants",
    "declbind.W001": "a binding of a file or class is invalid",
    "declbind.W002": "a binding record of the database is invalid",
    "declbind.W003": "a binding does what is probably not intended",
    "declbind.W004": "a bound model is written to another database than the log",
    "declbind.W005": "the channel layer loses its connections when idle",
    "declbind.W006": "the channel layer has a small pool of connections",
    "declbind.W007": "a table lacks the triggers that a binding asks for",
    "declbind.W008": "the session store cannot end a single session",
    "declbind.W009": "the sessions are in a cache that other processes cannot read",
    "declbind.W010": "the console is not declbind's, or not whole",
    "declbind.W011": "the JavaScript client is another one than declbind's",
    "declbind.W012": "the database is in memory",
    "declbind.W013": "the database lacks declbind's tables",
    "declbind.W014": "the pool of database connections is small",
    "declbind.W015": "a method that declbind wraps has changed or was replaced",
    "declbind.W016": "a binding class is outside of the bindings modules",
    "declbind.W017": "a binding class is not in force",
    "declbind.W018": "the ASGI application does not serve declbind's consumer",
    "declbind.W019": "no middleware of the ASGI application knows users",
    "declbind.W020": "any host name counts as the site's own",
    "declbind.W021": "uvicorn may read large messages into memory",
    "declbind.W022": "JWT has a weak key or no effect",
    "declbind.W023": "tenants with users of their own share the sessions",
    "declbind.W024": "a model has got fields that a binding does not send yet",
}


def install() -> None:
    """Register all checks with the tag ``declbind``, and those that make queries also with the tag ``database``."""
    register(check_settings, "declbind")
    register(check_origins, "declbind", Tags.security, deploy=True)
    register(check_message_size, "declbind", Tags.security, deploy=True)
    register(check_bindings, "declbind")
    register(check_classes, "declbind")
    register(check_channel_layer, "declbind")
    register(check_sessions, "declbind")
    register(check_installation, "declbind")
    register(check_application, "declbind")
    register(check_seams, "declbind")
    register(check_tenants, "declbind")
    register(check_tokens, "declbind")
    register(check_memory_database, "declbind")
    register(check_pool, "declbind")
    register(check_tables, "declbind", Tags.database)
    register(check_records, "declbind", Tags.database)
    register(check_triggers, "declbind", Tags.database)


__all__ = [
    "CHECKS",
    "CORE_LAYER",
    "WORKING_HOST",
    "check_application",
    "check_bindings",
    "check_channel_layer",
    "check_classes",
    "check_installation",
    "check_memory_database",
    "check_message_size",
    "check_origins",
    "check_pool",
    "check_records",
    "check_seams",
    "check_sessions",
    "check_settings",
    "check_tables",
    "check_tenants",
    "check_tokens",
    "check_triggers",
    "foreign_database",
    "install",
]

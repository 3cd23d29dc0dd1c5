"""The private and undocumented names of other packages that declbind uses, and what it needs of each.

Every such name has an entry in ``SEAMS``. The entries are checked when the process starts, and again by the system
check, the doctor and the console (see ``seam_checks``). If a release changes one of these names, declbind reports
what no longer works. A write of the project must never fail because of it. To use another private name, add an entry
here first.
"""

from __future__ import annotations

from collections.abc import Iterator

from django.db import DEFAULT_DB_ALIAS, connections, models

from .seam_checks import Seam, SeamFault


def _make_query_set(cls: object) -> object:
    from declbind.models import Event

    return cls(Event) if isinstance(cls, type) else None


def _make_row(cls: object) -> object:
    from declbind.models import Event

    return Event()


def _make_options(cls: object) -> object:
    from declbind.models import Event

    return Event._meta


def _make_collector(cls: object) -> object:
    return cls(using=DEFAULT_DB_ALIAS) if isinstance(cls, type) else None


def _make_connection(cls: object) -> object:
    return connections[DEFAULT_DB_ALIAS]


def _make_field(cls: object) -> object:
    return models.IntegerField()


_NO_WRITES = "No write is captured."

#: The methods that declbind wraps, by name.
HOOKED = {
    seam.name: seam
    for seam in (
        Seam(
            "django.db.models.base",
            "Model._save_parents",
            "Saves of rows whose columns are in tables of parents may not reach the groups that the rows leave.",
            ("cls", "using", "update_fields", "force_insert"),
            concerns="children",
            is_hooked=True,
        ),
        Seam(
            "django.db.models.base",
            "Model._save_table",
            "Model.save() is not captured.",
            ("raw", "cls", "force_insert", "force_update", "using", "update_fields"),
            concerns="all",
            is_hooked=True,
        ),
        Seam(
            "django.db.models.deletion",
            "Collector.delete",
            "Model.delete() and QuerySet.delete() are not captured, and neither are their cascades.",
            (),
            concerns="all",
            is_hooked=True,
        ),
        Seam(
            "django.db.models.query",
            "QuerySet.update",
            "QuerySet.update() is not captured.",
            (),
            concerns="all",
            is_hooked=True,
        ),
        Seam(
            "django.db.models.query",
            "QuerySet.bulk_update",
            "QuerySet.bulk_update() may be captured incompletely.",
            ("objs", "fields", "batch_size"),
            concerns="all",
            is_hooked=True,
        ),
        Seam(
            "django.db.models.query",
            "QuerySet.bulk_create",
            "QuerySet.bulk_create() is not captured, and neither is add() of a many-to-many field.",
            ("objs", "batch_size", "ignore_conflicts", "update_conflicts", "update_fields", "unique_fields"),
            concerns="all",
            is_hooked=True,
        ),
        Seam(
            "django.db.models.query",
            "QuerySet._raw_delete",
            "Deletes that need no cascade are not captured.",
            ("using",),
            concerns="all",
            is_hooked=True,
        ),
        Seam(
            "django.db.models.fields.related_descriptors",
            "create_forward_many_to_many_manager",
            "set() of a many-to-many field is reported as two changes of a row.",
            (),
            concerns="lists",
            is_hooked=True,
        ),
    )
}

#: The names that capture uses inside the hooks. If one of them is missing, no hook is installed.
NEEDED = (
    Seam(
        "django.db.models.query",
        "QuerySet",
        _NO_WRITES,
        attributes=(
            "_db", "_hints", "_result_cache",
            "query.combinator", "query.is_sliced", "query.select_for_update", "query.alias_refcount",
        ),
        make=_make_query_set,
        concerns="all",
    ),
    Seam(
        "django.db.models.base",
        "Model",
        _NO_WRITES,
        attributes=("_get_pk_val", "__class__._base_manager", "_state.adding", "_state.db"),
        make=_make_row,
        concerns="all",
    ),
    Seam(
        "django.db.models.options",
        "Options",
        _NO_WRITES,
        attributes=("pk_fields", "all_parents", "parents", "concrete_model", "concrete_fields", "select_on_save"),
        make=_make_options,
        concerns="all",
    ),
    Seam(
        "django.db.models.fields",
        "Field",
        _NO_WRITES,
        attributes=("get_col", "get_db_converters", "has_default", "has_db_default"),
        make=_make_field,
        concerns="all",
    ),
    Seam(
        "django.db.models.deletion",
        "Collector",
        _NO_WRITES,
        attributes=("using", "data", "fast_deletes", "field_updates"),
        make=_make_collector,
        concerns="all",
    ),
    Seam(
        "django.db.backends.base.base",
        "BaseDatabaseWrapper",
        _NO_WRITES,
        attributes=(
            "in_atomic_block", "atomic_blocks", "needs_rollback", "run_on_commit", "execute_wrappers", "create_cursor",
            "wrap_database_errors", "ops.compiler", "ops.get_db_converters", "ops.for_update_sql",
            "ops.adapt_datetimefield_value",
        ),
        make=_make_connection,
        concerns="all",
    ),
    Seam("django.db.models.sql.constants", "ROW_COUNT", _NO_WRITES, concerns="all"),
    Seam("django.db.models.sql.constants", "CURSOR", _NO_WRITES, concerns="all"),
    Seam(
        "django.db.models.sql.compiler", "SQLUpdateCompiler.execute_sql", _NO_WRITES, ("result_type",), concerns="all"
    ),
    Seam(
        "django.db.models.sql.compiler",
        "SQLInsertCompiler.execute_sql",
        _NO_WRITES,
        ("returning_fields",),
        concerns="all",
    ),
)  # fmt: skip

#: Private names outside capture. The code that uses them works without them, with the given effect.
SHORTCUTS = (
    *(
        Seam("django.db.models.base", f"Model.{name}", "Each saved row is read back.")
        for name in ("_do_update", "_do_insert")
    ),
    Seam("django.db.models.query_utils", "DeferredAttribute", "Each saved row is read back."),
    Seam(
        "django.db.models.fields.related_descriptors",
        "ForeignKeyDeferredAttribute",
        "Each saved row with a foreign key is read back.",
    ),
    Seam(
        "channels.sessions",
        "InstanceSessionWrapper",
        "Each frame passes through the session middleware and costs more time.",
    ),
    Seam(
        "django.forms.models",
        "apply_limit_choices_to_to_formfield",
        "Writes of clients to relations fail.",
        ("formfield",),
    ),
    Seam("django.forms.utils", "from_current_timezone", "Writes of clients to date and time fields fail.", ("value",)),
    Seam(
        "django.contrib.sessions.backends.base",
        "SessionBase._get_session_key",
        "A logout closes the sockets of all sessions of the user.",
        (),
    ),
    Seam(
        "django.db.migrations.executor",
        "MigrationExecutor.migration_plan",
        "The doctor cannot detect missing migrations.",
        ("targets",),
    ),
    Seam(
        "django.db.migrations.recorder",
        "MigrationRecorder.Migration",
        "The check of declbind's tables (W013) finds nothing.",
    ),
    Seam("channels.layers", "channel_layers", "Wake-ups share the channel layer of the application."),
    Seam("channels.layers", "InMemoryChannelLayer", "Wake-ups may use a layer that is in memory."),
    Seam(
        "daphne.server",
        "Server.handle_reply",
        "Under daphne, frames are sent without waiting for a slow client, and closes have no reason.",
        ("protocol", "message"),
    ),
    Seam(
        "autobahn.websocket.protocol",
        "WebSocketProtocol.sendCloseFrame",
        "Under daphne, closes have no reason.",
    ),
)

SEAMS = (*HOOKED.values(), *NEEDED, *SHORTCUTS)


def find_name_faults(seams: tuple[Seam, ...] | None = None) -> Iterator[SeamFault]:
    """Yield the names that no longer exist or have changed."""
    for seam in SEAMS if seams is None else seams:
        problem = seam.find_problem()
        if problem:
            package = seam.module.partition(".")[0]
            yield SeamFault(
                seam,
                problem,
                f"Install a release of {package} that this declbind supports, or a newer declbind. Announce rows that "
                "are not captured with declbind.touch(queryset).",
            )

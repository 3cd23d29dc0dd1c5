"""Triggers on PostgreSQL: one for each kind of statement, with all rows that it wrote.

A statement's rows come as transition tables, so that a large statement is one mark, and costs one call of a function.
The function belongs to who installs it, so that other programs need no right to write to the log.
"""

from __future__ import annotations

import hashlib
from typing import Any

from .tables import WantedTable

EVENTS = ("insert", "update", "delete", "truncate")
FUNCTION = "declbind_mark"
#: Whether the triggers of a table are all there and run in this session. Sets who writes, and by which program.
REPORTED_SQL = (
    "SELECT set_config('declbind.writer', %s, %s), (SELECT COUNT(*) = 4 FROM pg_trigger WHERE tgrelid = to_regclass(%s)"
    " AND tgname IN ('declbind_insert', 'declbind_update', 'declbind_delete', 'declbind_truncate') AND tgenabled IN"
    " ('A', CASE current_setting('session_replication_role') WHEN 'replica' THEN 'R' ELSE 'O' END))"
)
#: Sets the call of the ORM that marks belong to.
CALL_SQL = "SELECT set_config('declbind.call', %s, true)"

_FUNCTION_BODY = """
#variable_conflict use_variable
DECLARE
    our_columns text[] := TG_ARGV[2:];
    our_key text := TG_ARGV[0];
    our_limit bigint := TG_ARGV[1]::bigint;
    our_is_many boolean := TG_OP = 'TRUNCATE';
    our_image text;
    our_found text;
    -- Who writes and by which program, as the ORM says; other writers are known by the names of their sessions.
    our_writer text := coalesce(current_setting('declbind.writer', true), '');
BEGIN
    IF TG_OP = 'INSERT' OR TG_OP = 'UPDATE' THEN
        our_is_many := (SELECT count(*) > our_limit FROM (SELECT FROM declbind_new LIMIT our_limit + 1) AS few);
    ELSIF TG_OP = 'DELETE' THEN
        our_is_many := (SELECT count(*) > our_limit FROM (SELECT FROM declbind_old LIMIT our_limit + 1) AS few);
    END IF;
    -- Each column as its type writes it, which its type reads again without a loss; but for JSON, which is a part of
    -- the note. Only columns that are there: a migration may have taken one away since this trigger was made.
    our_image := (
        SELECT 'jsonb_build_object(' || string_agg(
            format(CASE WHEN atttypid IN ('json'::regtype, 'jsonb'::regtype) THEN '%1$L, to_jsonb(one.%1$I)'
                ELSE '%1$L, one.%1$I::text' END, attname), ', ') || ')'
        FROM pg_attribute WHERE attrelid = TG_RELID AND attname = ANY (our_columns) AND attnum > 0 AND NOT attisdropped
    );
    IF our_is_many OR our_image IS NULL THEN
        our_found := 'SELECT jsonb_build_object($2, $3) AS note';
    ELSIF TG_OP = 'INSERT' THEN
        our_found := format('SELECT jsonb_build_object($2, $4, $6, %s) AS note FROM declbind_new AS one', our_image);
    ELSIF TG_OP = 'DELETE' THEN
        our_found := format('SELECT jsonb_build_object($2, $4, $5, %s) AS note FROM declbind_old AS one', our_image);
    ELSE
        -- A row whose key was changed is one that went and one that came.
        our_found := format(
            'SELECT CASE WHEN was.image IS NULL THEN jsonb_build_object($2, $7, $6, is_now.image)'
            ' WHEN is_now.image IS NULL THEN jsonb_build_object($2, $8, $5, was.image)'
            ' ELSE jsonb_build_object($2, $4, $5, was.image, $6, is_now.image) END AS note'
            ' FROM (SELECT one.%1$I AS id, %2$s AS image FROM declbind_old AS one) AS was'
            ' FULL JOIN (SELECT one.%1$I AS id, %2$s AS image FROM declbind_new AS one) AS is_now'
            ' ON was.id = is_now.id',
            our_key, our_image);
    END IF;
    EXECUTE
        'INSERT INTO {events} (kind, stream, model, object_pk, changes, data, version, actor, origin, created_at)'
        ' SELECT $9, $10, $10, $10, $11, (jsonb_build_object($12, $1, $15, $16) || found.note)::text, 0, $13, $14,'
        ' clock_timestamp() FROM (' || our_found || ') AS found'
        USING TG_TABLE_NAME::text, 'op'::text, 'MANY'::text, TG_OP, 'old'::text, 'new'::text, 'INSERT'::text,
            'DELETE'::text, 'mark'::text, ''::text, '[]'::text, 'table'::text,
            CASE our_writer WHEN '' THEN left(session_user, 150) ELSE split_part(our_writer, E'\x1f', 1) END,
            CASE our_writer WHEN '' THEN left('SQL ' || current_setting('application_name', true), 150)
                ELSE split_part(our_writer, E'\x1f', 2) END,
            'call'::text, coalesce(current_setting('declbind.call', true), '');
    RETURN NULL;
END
"""
#: What stands for the log's table where a function is compared with what it should be.
_EVENTS_PLACE = "{events}"
_SCHEMA_SQL = "SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = 'declbind_event'::regclass"
#: What the text of a value depends on, and where the log is found; whatever the writer's session says.
_SETTINGS = (
    "search_path = pg_catalog, pg_temp",
    "datestyle = 'ISO, YMD'",
    "intervalstyle = 'postgres'",
    "extra_float_digits = 1",
    "bytea_output = 'hex'",
    "timezone = 'UTC'",
)
_TRANSITIONS = {
    "insert": " REFERENCING NEW TABLE AS declbind_new",
    "update": " REFERENCING OLD TABLE AS declbind_old NEW TABLE AS declbind_new",
    "delete": " REFERENCING OLD TABLE AS declbind_old",
    "truncate": "",
}


def install_sql(tables: list[WantedTable], connection: Any) -> list[str]:
    """Return the statements that put in the function and the triggers of tables, in place of what is there."""
    statements = [function_sql(connection)] if tables else []
    for table in tables:
        for event in EVENTS:
            statements += [_drop(table.name, event, connection), *_create(table, event, connection)]
    return statements


def remove_sql(triggers: list[tuple[str, str]], connection: Any) -> list[str]:
    """Return the statements that take out triggers, given as (table, event)."""
    return [_drop(table, event, connection) for table, event in triggers]


def function_sql(connection: Any) -> str:
    """Return the statement that makes the function, in the schema of the log."""
    schema = _schema(connection)
    body = _body(f"{schema}.declbind_event").replace("'", "''")
    settings = " ".join(f"SET {setting}" for setting in _SETTINGS)
    return (
        f"CREATE OR REPLACE FUNCTION {schema}.{FUNCTION}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER"
        f" {settings} AS '{body}'"
    )


def _body(events: str) -> str:
    return _FUNCTION_BODY.format(events=events)


def load_found(connection: Any) -> dict[tuple[str, str], str]:
    """Return what triggers of ours there are: (table, event) -> fingerprint, or "disabled"."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT class.relname, trigger.tgname, trigger.tgenabled::text, obj_description(trigger.oid, 'pg_trigger'),"
            f" function.prosrc, ({_SCHEMA_SQL}) FROM pg_trigger AS trigger"
            " JOIN pg_class AS class ON class.oid = trigger.tgrelid"
            " JOIN pg_proc AS function ON function.oid = trigger.tgfoid"
            " WHERE function.proname = %s AND NOT trigger.tgisinternal"
            " AND pg_table_is_visible(class.oid)",
            [FUNCTION],
        )
        return {
            (table, name.removeprefix("declbind_")): "disabled"
            if enabled == "D"
            # Which schema the log is in is asked once, here, and not for each fingerprint.
            else f"{comment} {_digest(source.replace(f'{schema}.declbind_event', _EVENTS_PLACE))}"
            for table, name, enabled, comment, source, schema in cursor.fetchall()
        }


def fingerprint(table: WantedTable, event: str, connection: Any) -> str:
    """Return what ``load_found`` says of a trigger that is as it should be."""
    return f"{_digest(_arguments(table, event))} {_digest(_body(_EVENTS_PLACE))}"


def _create(table: WantedTable, event: str, connection: Any) -> list[str]:
    name, quote = f"declbind_{event}", connection.ops.quote_name
    arguments = _arguments(table, event)
    call = f"{_schema(connection)}.{FUNCTION}({arguments})"
    on = f"AFTER {event.upper()} ON {quote(table.name)}{_TRANSITIONS[event]}"
    return [
        f"CREATE TRIGGER {name} {on} FOR EACH STATEMENT EXECUTE FUNCTION {call}",
        f"COMMENT ON TRIGGER {name} ON {quote(table.name)} IS '{_digest(arguments)}'",
    ]


def _drop(table: str, event: str, connection: Any) -> str:
    return f"DROP TRIGGER IF EXISTS declbind_{event} ON {connection.ops.quote_name(table)}"


def _arguments(table: WantedTable, event: str) -> str:
    if event == "truncate":
        return f"{_text(table.key)}, '0'"
    return ", ".join(map(_text, (table.key, str(table.limit), *table.columns)))


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _schema(connection: Any) -> str:
    with connection.cursor() as cursor:
        cursor.execute(_SCHEMA_SQL)
        found: str = cursor.fetchone()[0]
    return found


def read_images(model: Any, names: list[str], notes: list[str], connection: Any) -> list[tuple[int, str, list[Any]]]:
    """Return the rows that notes carry, as (place of the note, "old" or "new", values of ``names``)."""
    quote = connection.ops.quote_name
    chosen = ", ".join(f"image.{quote(name)}" for name in names)
    with connection.cursor() as cursor:
        # The texts go as they are: numbers in them may be larger than Python's.
        cursor.execute(
            f"SELECT one.place, side.name, {chosen} FROM jsonb_array_elements(%s::jsonb)"
            " WITH ORDINALITY AS one(value, place), (VALUES ('old'), ('new')) AS side(name),"
            f" LATERAL jsonb_populate_record(NULL::{quote(model._meta.db_table)}, one.value -> side.name) AS image"
            " WHERE one.value ? side.name",
            [f"[{','.join(notes)}]"],
        )
        return [(place - 1, side, list(values)) for place, side, *values in cursor.fetchall()]

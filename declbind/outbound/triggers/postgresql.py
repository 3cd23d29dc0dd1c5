"""Triggers on PostgreSQL: one per table for each kind of statement.

A trigger reads the rows that the statement wrote from transition tables, so a large statement costs one function call
and one mark. Each table has a trigger function. It runs with the privileges of its owner, so other programs need no
privilege to write to the log.
"""

from __future__ import annotations

import hashlib

from django.db import models

from declbind.django_types import Connection
from declbind.outbound import entries

from .tables import Image, WantedTable

EVENTS = ("insert", "update", "delete", "truncate")
FUNCTION = "declbind_mark"
#: The number of a table's triggers that exist and are enabled in this session. ``REPORTED_SQL`` also sets the writer
#: and the program.
COUNT_SQL = (
    "(SELECT COUNT(*) FROM pg_trigger WHERE tgrelid = to_regclass(%s) AND tgname IN"
    " ('declbind_insert', 'declbind_update', 'declbind_delete', 'declbind_truncate') AND tgenabled IN"
    " ('A', CASE current_setting('session_replication_role') WHEN 'replica' THEN 'R' ELSE 'O' END))"
)
REPORTED_SQL = f"SELECT set_config('declbind.writer', %s, %s), {COUNT_SQL}"
VERIFIED_SQL = f"{COUNT_SQL} = {len(EVENTS)}"
#: Sets the identifier of the ORM call, which the triggers copy into marks.
CALL_SQL = "SELECT set_config('declbind.call', %s, true)"

#: The trigger function of a table. Its static statements name the columns and are four times as fast as statements
#: built at run time. If a named column has been dropped, the function builds the statement at run time, so that the
#: write does not fail.
_FUNCTION_BODY = """
#variable_conflict use_variable
DECLARE
    our_columns text[] := ARRAY[{columns}];
    our_call text := coalesce(current_setting('declbind.call', true), '');
    -- Who writes and by which program, as the ORM says; other writers are known by the names of their sessions.
    our_writer text := coalesce(current_setting('declbind.writer', true), '');
    our_actor text := CASE our_writer WHEN '' THEN left(session_user, 150) ELSE split_part(our_writer, {mark}, 1) END;
    our_origin text := CASE our_writer WHEN '' THEN left('SQL ' || current_setting('application_name', true), 150)
        ELSE split_part(our_writer, {mark}, 2) END;
    our_is_many boolean := TG_OP = 'TRUNCATE';
    our_note jsonb := jsonb_build_object('table', {name}, 'op', TG_OP, 'call', our_call);
    our_image text;
    our_found text;
BEGIN
    IF TG_OP = 'INSERT' OR TG_OP = 'UPDATE' THEN
        our_is_many := (SELECT count(*) > {limit} FROM (SELECT FROM declbind_new LIMIT {limit} + 1) AS few);
    ELSIF TG_OP = 'DELETE' THEN
        our_is_many := (SELECT count(*) > {limit} FROM (SELECT FROM declbind_old LIMIT {limit} + 1) AS few);
    END IF;
    IF our_is_many THEN
        INSERT INTO {target} VALUES ({values}, (our_note || '{"op": "MANY"}')::text);
        RETURN NULL;
    END IF;
    IF cardinality(our_columns) = (
        SELECT count(*) FROM pg_attribute WHERE attrelid = TG_RELID AND attname = ANY (our_columns) AND attnum > 0
        AND NOT attisdropped
    ) THEN
        IF TG_OP = 'INSERT' THEN
            INSERT INTO {target} SELECT {values}, (our_note || jsonb_build_object('new', {image}))::text
                FROM declbind_new AS one;
        ELSIF TG_OP = 'DELETE' THEN
            INSERT INTO {target} SELECT {values}, (our_note || jsonb_build_object('old', {image}))::text
                FROM declbind_old AS one;
        ELSE
            -- A row whose key was changed is one that went and one that came.
            INSERT INTO {target} SELECT {values}, (our_note || CASE
                WHEN was.image IS NULL THEN jsonb_build_object('op', 'INSERT', 'new', is_now.image)
                WHEN is_now.image IS NULL THEN jsonb_build_object('op', 'DELETE', 'old', was.image)
                ELSE jsonb_build_object('old', was.image, 'new', is_now.image) END)::text
                FROM (SELECT one.{key} AS id, {image} AS image FROM declbind_old AS one) AS was
                FULL JOIN (SELECT one.{key} AS id, {image} AS image FROM declbind_new AS one) AS is_now
                ON was.id = is_now.id;
        END IF;
        RETURN NULL;
    END IF;
    our_image := (
        SELECT 'jsonb_build_object(' || string_agg(
            format(CASE WHEN atttypid IN ('json'::regtype, 'jsonb'::regtype) THEN '%1$L, to_jsonb(one.%1$I)'
                ELSE '%1$L, one.%1$I::text' END, attname), ', ') || ')'
        FROM pg_attribute WHERE attrelid = TG_RELID AND attname = ANY (our_columns) AND attnum > 0 AND NOT attisdropped
    );
    IF our_image IS NULL OR NOT EXISTS (
        SELECT FROM pg_attribute WHERE attrelid = TG_RELID AND attname = {key_text} AND NOT attisdropped
    ) THEN
        INSERT INTO {target} VALUES ({values}, (our_note || '{"op": "MANY"}')::text);
        RETURN NULL;
    END IF;
    IF TG_OP = 'INSERT' THEN
        our_found := format('SELECT jsonb_build_object($5, %s) AS note FROM declbind_new AS one', our_image);
    ELSIF TG_OP = 'DELETE' THEN
        our_found := format('SELECT jsonb_build_object($4, %s) AS note FROM declbind_old AS one', our_image);
    ELSE
        our_found := format(
            'SELECT CASE WHEN was.image IS NULL THEN jsonb_build_object($6, $7, $5, is_now.image)'
            ' WHEN is_now.image IS NULL THEN jsonb_build_object($6, $8, $4, was.image)'
            ' ELSE jsonb_build_object($4, was.image, $5, is_now.image) END AS note'
            ' FROM (SELECT one.%1$I AS id, %2$s AS image FROM declbind_old AS one) AS was'
            ' FULL JOIN (SELECT one.%1$I AS id, %2$s AS image FROM declbind_new AS one) AS is_now'
            ' ON was.id = is_now.id',
            {key_text}, our_image);
    END IF;
    EXECUTE 'INSERT INTO {target} SELECT {executed}, ($1 || found.note)::text FROM (' || our_found || ') AS found'
        USING our_note, our_actor, our_origin, 'old'::text, 'new'::text, 'op'::text, 'INSERT'::text, 'DELETE'::text;
    RETURN NULL;
END
"""
#: A placeholder for the log's table when a function is compared with its expected text.
_EVENTS_PLACE = "the_log"
_SCHEMA_SQL = "SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = 'declbind_event'::regclass"
#: The settings that determine how values are written as text and where the log is found. They override the settings of
#: the writer's session.
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


def install_sql(tables: list[WantedTable], connection: Connection) -> list[str]:
    """Return the statements that install the functions and triggers of tables, replacing existing ones."""
    statements = []
    for table in tables:
        statements += function_sql(table, connection)
        for event in EVENTS:
            statements += [_drop(table.name, event, connection), _create(table, event, connection)]
    return statements


def remove_sql(triggers: list[tuple[str, str]], connection: Connection) -> list[str]:
    """Return the statements that remove triggers, given as (table, event), and the functions of their tables."""
    if not triggers:
        return []
    schema = _schema(connection)
    functions = [f"DROP FUNCTION IF EXISTS {schema}.{_function(table)}()" for table in dict(triggers)]
    return [*(_drop(table, event, connection) for table, event in triggers), *functions]


def function_sql(table: WantedTable, connection: Connection) -> list[str]:
    """Return the statements that create the trigger function of a table, in the schema of the log.

    The comment on the function is the model's name for the table, which may include a schema.
    """
    schema = _schema(connection)
    body = _body(table, f"{schema}.declbind_event").replace("'", "''")
    settings = " ".join(f"SET {setting}" for setting in _SETTINGS)
    function = f"{schema}.{_function(table.name)}()"
    options = f"RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER {settings}"
    return [
        f"CREATE OR REPLACE FUNCTION {function} {options} AS '{body}'",
        f"COMMENT ON FUNCTION {function} IS {_text(table.name)}",
    ]


def _body(table: WantedTable, events: str) -> str:
    # Each value is cast to text, which its type reads back without loss. JSON values are embedded as JSON.
    image = ", ".join(
        f"{_text(name)}, CASE WHEN pg_typeof(one.{_quoted(name)}) IN ('json'::regtype, 'jsonb'::regtype)"
        f" THEN to_jsonb(one.{_quoted(name)}) ELSE to_jsonb(one.{_quoted(name)}::text) END"
        for name in table.columns
    )
    parts = {
        "{target}": f"{{events}} ({entries.MARK_COLUMNS})",
        "{values}": entries.mark_values(actor="our_actor", origin="our_origin", created_at="clock_timestamp()"),
        "{executed}": entries.mark_values(actor="$2", origin="$3", created_at="clock_timestamp()").replace("'", "''"),
        "{events}": events,
        "{name}": f"{_text(table.name)}::text",
        "{limit}": str(table.limit),
        "{mark}": "chr(31)",
        "{key}": _quoted(table.key),
        "{key_text}": _text(table.key),
        "{columns}": ", ".join(map(_text, table.columns)),
        "{image}": f"jsonb_build_object({image})",
    }
    body = _FUNCTION_BODY
    for place, text in parts.items():
        body = body.replace(place, text)
    return body


def _function(table: str) -> str:
    return f"{FUNCTION}_{_digest(table)}"


def load_found(connection: Connection) -> dict[tuple[str, str], str]:
    """Return the installed declbind triggers as (table, event) -> fingerprint, or "disabled" for a disabled trigger."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT coalesce(obj_description(function.oid, 'pg_proc'), class.relname), trigger.tgname,"
            " trigger.tgenabled::text,"
            f" function.prosrc, ({_SCHEMA_SQL}) FROM pg_trigger AS trigger"
            " JOIN pg_class AS class ON class.oid = trigger.tgrelid"
            " JOIN pg_proc AS function ON function.oid = trigger.tgfoid"
            " WHERE starts_with(function.proname, %s) AND NOT trigger.tgisinternal"
            " AND (pg_table_is_visible(class.oid) OR obj_description(function.oid, 'pg_proc') <> class.relname)",
            [FUNCTION],
        )
        return {
            (table, name.removeprefix("declbind_")): "disabled"
            if enabled == "D"
            # The schema of the log is queried once, here, and not for each fingerprint.
            else _digest(source.replace(f"{schema}.declbind_event", _EVENTS_PLACE))
            for table, name, enabled, source, schema in cursor.fetchall()
        }


def fingerprint(table: WantedTable, event: str, connection: Connection) -> str:
    """Return the fingerprint that ``load_found`` returns for a trigger that is up to date."""
    return _digest(_body(table, _EVENTS_PLACE))


def _create(table: WantedTable, event: str, connection: Connection) -> str:
    on = f"AFTER {event.upper()} ON {_quoted(table.name)}{_TRANSITIONS[event]}"
    call = f"{_schema(connection)}.{_function(table.name)}()"
    return f"CREATE TRIGGER declbind_{event} {on} FOR EACH STATEMENT EXECUTE FUNCTION {call}"


def _drop(table: str, event: str, connection: Connection) -> str:
    return f"DROP TRIGGER IF EXISTS declbind_{event} ON {_quoted(table)}"


def _quoted(name: str) -> str:
    """Quote a name as Django does: a name that is already quoted is returned unchanged."""
    return name if name.startswith('"') and name.endswith('"') else f'"{name}"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _schema(connection: Connection) -> str:
    with connection.cursor() as cursor:
        cursor.execute(_SCHEMA_SQL)
        found: str = cursor.fetchone()[0]
    return found


def read_images(model: type[models.Model], names: list[str], notes: list[str], connection: Connection) -> list[Image]:
    """Return the rows in the marks ``notes`` (JSON texts), with the values of the columns ``names`` in that order."""
    quote = connection.ops.quote_name
    chosen = ", ".join(f"image.{quote(name)}" for name in names)
    with connection.cursor() as cursor:
        # The JSON text is passed to the server unparsed, because Python's floats may lose digits of its numbers.
        cursor.execute(
            f"SELECT one.place, side.name, {chosen} FROM jsonb_array_elements(%s::jsonb)"
            " WITH ORDINALITY AS one(value, place), (VALUES ('old'), ('new')) AS side(name),"
            f" LATERAL jsonb_populate_record(NULL::{quote(model._meta.db_table)}, one.value -> side.name) AS image"
            " WHERE one.value ? side.name",
            [f"[{','.join(notes)}]"],
        )
        return [Image(place - 1, side, list(values)) for place, side, *values in cursor.fetchall()]

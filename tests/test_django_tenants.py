"""django-tenants for real, on PostgreSQL: two tenants and the public schema, with equal keys in all of them."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.json_types import JSONObject
from tests.servers import ROOT, PostgresServer

#: What is broken on purpose, and a step of the course that must notice it.
CONTROLS = [
    ("constant", "each_event_has_the_tenant_of_its_write"),
    ("constant", "each_tenant_is_sent_its_own_events"),
    ("activation", "clients_write_rows_of_their_tenant"),
    ("dispatch", "each_tenant_is_sent_its_own_events"),
    ("dispatch", "a_kick_ends_the_sockets_of_its_tenant"),
    ("dispatch", "a_logout_ends_the_sockets_of_its_tenant"),
    ("barrier", "a_loss_under_load_is_exact_and_concerns_one_tenant"),
    ("replay", "a_replay_has_the_events_of_its_tenant"),
    ("proofs", "a_proof_of_another_tenant_is_refused"),
    ("actors", "an_idempotency_key_counts_in_its_tenant_only"),
    ("controls", "a_permission_change_of_another_tenant_does_not_end_a_replay"),
    ("sessions", "an_expired_session_is_found_in_its_tenant"),
    ("tokens", "a_token_is_valid_in_its_tenant_only"),
    ("facts", "triggers_of_a_table_are_found_in_its_schema"),
    ("console", "operators_see_data_of_their_tenant_only"),
    ("console", "only_operators_of_the_public_schema_edit_bindings"),
    ("push", "the_live_page_shows_its_tenant_only"),
    ("sharing", "a_snapshot_has_the_rows_of_its_tenant"),
]


def run(database: str, *arguments: str, site: str = "plain") -> str:
    dropped = ("DJANGO", "DATABASE", "TEST_", "PYTEST")
    env = {key: value for key, value in os.environ.items() if not key.startswith(dropped)}
    env |= {
        "DJANGO_SETTINGS_MODULE": "tests.tenants.settings",
        "DJANGO_ALLOW_ASYNC_UNSAFE": "1",
        "DATABASE_URL": database,
        "TENANT_SITE": site,
    }
    code = [sys.executable, "-W", "ignore", "-m", "tests.tenants.course", *arguments]
    ran = subprocess.run(code, cwd=ROOT, env=env, capture_output=True, text=True, timeout=200)
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-4000:]
    return ran.stdout


def take_course(database: str, *arguments: str, **options: str) -> JSONObject:
    found: JSONObject = json.loads(run(database, *arguments, **options).splitlines()[-1])
    return found


@pytest.fixture(scope="module")
def template(postgres_process: PostgresServer) -> str:
    """Make the schemas once; each course has a copy."""
    postgres_process.resume()
    run(postgres_process.start().create_database("tenants_template"), "build")
    return "tenants_template"


@pytest.fixture(scope="module")
def course(template: str, postgres_process: PostgresServer) -> JSONObject:
    """Take all steps."""
    return take_course(postgres_process.create_database("tenants_course", template=template))


@pytest.fixture
def database(template: str, postgres_server: PostgresServer, database_names: Iterator[str]) -> str:
    """Copy the database for this test."""
    return postgres_server.create_database(next(database_names), template=template)


def steps() -> list[str]:
    """Return the names of the steps, without importing them: they need models that these settings do not have."""
    found = []
    for module in sorted((ROOT / "tests" / "tenants").glob("*.py")):
        pairs = itertools.pairwise(module.read_text().splitlines())
        found += [after.removeprefix("def ").partition("(")[0] for line, after in pairs if line == "@step"]
    return found


@pytest.mark.parametrize("name", steps())
def test_tenants_are_kept_apart(name: str, course: JSONObject) -> None:
    assert course[name]["seen"] == course[name]["expected"]


#: Steps that a site with users in the public schema takes.
SHARED = ("each_tenant_is_sent_its_own_events", "shared_users_are_the_same_in_all_tenants")


def test_users_may_be_in_the_public_schema(postgres_server: PostgresServer) -> None:
    """Both also work with ``TENANT_LIMIT_SET_CALLS``, which sets the search path as rarely as possible."""
    database = postgres_server.create_database("tenants_shared")
    run(database, "build", site="shared_users")
    found = take_course(database, *SHARED, site="shared_users")
    assert [step["seen"] for step in found.values()] == [step["expected"] for step in found.values()]


def test_the_search_path_may_be_set_rarely(database: str) -> None:
    names = [
        name for name in steps() if name.startswith(("each_", "a_snapshot", "clients_", "threads_", "rolled_back"))
    ]
    found = take_course(database, *names, site="limited")
    assert [step["seen"] for step in found.values()] == [step["expected"] for step in found.values()]


@pytest.mark.parametrize(("site", "id_"), [("plain", ""), ("bare", "declbind.E008"), ("inside", "declbind.E013")])
def test_the_checks_find_what_is_wrong(site: str, id_: str, database: str) -> None:
    found = json.loads(run(database, "check", site=site).splitlines()[-1])
    assert found == [name for name in [id_] if name]


@pytest.mark.parametrize(("broken", "name"), CONTROLS)
def test_broken_variants_are_detected(broken: str, name: str, database: str) -> None:
    """Negative controls."""
    found = take_course(database, f"sabotage={broken}", name)[name]
    assert found["seen"] != found["expected"]

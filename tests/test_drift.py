"""Drift: a record that was stored from a file and edited since shows the file and the differences."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from declbind.console import overview
from declbind.models import BindingRecord
from tests.command_runs import GROUPS, Ran, fresh_registry, spoil, store

pytestmark = pytest.mark.django_db

__all__ = ["fresh_registry"]


@pytest.fixture
def record(tmp_path: Path) -> BindingRecord:
    """Return a record that came from posts.json."""
    (tmp_path / "posts.json").write_text(json.dumps([GROUPS]))
    Ran("apply", "--yes", str(tmp_path / "posts.json"))
    record: BindingRecord = BindingRecord.objects.get()
    return record


def edit(record: BindingRecord, **values: object) -> None:
    for key, value in values.items():
        setattr(record, key, value)
    record.save()


def test_an_unchanged_record_has_no_drift(record: BindingRecord) -> None:
    """Neither does a record that never came from a file, nor one whose edit was reverted."""
    store(stream="other")
    assert overview.load_drift("default") == {}
    edit(record, description="x")
    edit(record, description="")
    assert overview.load_drift("default") == {}


def test_an_edit_is_drift_until_the_file_is_applied_again(record: BindingRecord, tmp_path: Path) -> None:
    """The drift has the file's place, the version, and for each key the file's value and the present one."""
    edit(record, description="x", groups=[])
    source = f"{tmp_path}/posts.json[0]"
    assert overview.load_drift("default") == {
        "groups": overview.Drift(source, 1, (("groups", ["name-{name}"], None), ("description", None, "x")))
    }
    Ran("apply", "--yes", str(tmp_path / "posts.json"))
    assert overview.load_drift("default") == {}


def test_the_last_file_counts(record: BindingRecord, tmp_path: Path) -> None:
    """A file that was applied later owns the record from then on."""
    (tmp_path / "later.json").write_text(json.dumps({**GROUPS, "description": "later"}))
    Ran("apply", "--yes", str(tmp_path / "later.json"))
    record.refresh_from_db()
    edit(record, description="x")
    [drift] = overview.load_drift("default").values()
    assert drift.source == f"{tmp_path}/later.json"
    assert drift.differences == (("description", "later", "x"),)


def test_a_record_recreated_by_hand_has_no_drift(record: BindingRecord) -> None:
    """Its history has a removal in between."""
    record.delete()
    store(description="by hand")
    assert overview.load_drift("default") == {}


def test_drift_costs_one_query_for_a_page_of_records(record: BindingRecord) -> None:
    """It takes one query for any number of records, and two if they have to be loaded first."""
    for number in range(20):
        store(stream=f"s{number}")
    edit(record, description="x")
    page = {item.stream: item.definition() for item in BindingRecord.objects.all()}
    with CaptureQueriesContext(
        connection,
    ) as queries:
        assert list(overview.load_drift("default", page)) == ["groups"]
    assert len(queries) == 1
    with CaptureQueriesContext(connection) as queries:
        assert list(overview.load_drift("default")) == ["groups"]
    assert len(queries) == 2


def test_list_show_and_check_report_drift(record: BindingRecord, tmp_path: Path) -> None:
    """It is a warning: check accepts a record with drift, and not an invalid one."""
    source = f"{tmp_path}/posts.json[0]"
    assert source not in Ran("list").out
    edit(record, description="x")
    [line] = [line for line in Ran("list").lines if line.startswith("groups")]
    assert line.endswith(f"database record 'groups', differs from {source}")
    [listed] = [item for item in Ran("list", "--format", "json").json if item["stream"] == "groups"]
    drift = {"source": source, "version": 1, "differences": {"description": {"file": None, "now": "x"}}}
    assert listed["drift"] == drift
    assert f"drift       differs from {source}" in Ran("show", "groups").lines
    assert Ran("show", "groups", "--format", "json").json["drift"] == drift
    ran = Ran("check")
    assert ran.status == 0
    assert (
        f"warning  database record 'groups': $: Binding 'groups': differs from {source} in "
        "'description'; it was stored from there at version 1. Apply that file again, or export the record into it."
        in ran.lines
    )
    spoil()
    assert Ran("check").status == 1

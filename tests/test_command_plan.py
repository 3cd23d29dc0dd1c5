"""The verbs plan and apply: compare records with the database, and store them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError

from declbind import registry
from declbind.console import plan
from declbind.models import BindingRecord, BindingRevision
from tests.command_runs import GROUPS, NAME_TEXT, USERS, Ran, digest, fresh_registry, state, store, write

__all__ = ["fresh_registry"]

pytestmark = pytest.mark.django_db


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "records.json"


def test_plan_shows_each_difference_and_changes_nothing(path: Path) -> None:
    """Additions with their keys, changes key by key, removals only with --prune; then the counts and a hash."""
    store(description="old")
    store(stream="same")
    store(stream="spare")
    before = state()
    write(path, {**GROUPS, "description": "new", "enabled": False}, {**GROUPS, "stream": "same"}, USERS)
    ran = Ran("plan", str(path))
    assert ran.status == 0
    assert ran.lines[:-1] == [
        f"~ groups  ({path}[0])",
        "    enabled      null -> false",
        '    description  "old" -> "new"',
        f"= same  ({path}[1])",
        f"+ users  ({path}[2])",
        '    model   "auth.User"',
        '    fields  ["username"]',
        "1 to add, 1 to change, 0 to remove, 1 unchanged.",
    ]
    pruned = Ran("plan", str(path), "--prune")
    assert "- spare  (database record 'spare')" in pruned.lines
    assert pruned.lines[-2] == "1 to add, 1 to change, 1 to remove, 1 unchanged."
    assert state() == before


def test_plan_as_json(path: Path) -> None:
    """The JSON holds the same data."""
    store()
    made = Ran("plan", write(path, {**GROUPS, "description": "new"}), "--format", "json").json
    assert made.pop("plan") == digest(str(path))
    assert made == {
        "ok": True,
        "version": 1,
        "problems": [],
        "changes": [
            {
                "action": "change",
                "stream": "groups",
                "where": f"{path}[0]",
                "differences": {"description": {"old": None, "new": "new"}},
            }
        ],
    }


def test_apply_makes_the_changes(path: Path) -> None:
    """After apply the plan is empty; missing records stay without --prune and are removed with it."""
    store(description="old")
    store(stream="spare")
    write(path, GROUPS, USERS)
    ran = Ran("apply", "--yes", str(path))
    assert (ran.status, ran.lines[-1]) == (0, "The configuration is at version 4.")
    assert state() == ({"groups": GROUPS, "users": USERS, "spare": {**GROUPS, "stream": "spare"}}, 4)
    assert Ran("plan", str(path)).lines[-2] == "0 to add, 0 to change, 0 to remove, 2 unchanged."
    Ran("apply", "--yes", str(path), "--prune")
    assert state() == ({"groups": GROUPS, "users": USERS}, 5)
    Ran("apply", "--yes", str(path), "--prune")
    assert state()[1] == 5, "nothing to do is no edit"


def test_export_and_apply_are_inverse(path: Path) -> None:
    """Applying an export restores the same records, and exporting again gives the same text."""
    full = {
        **GROUPS,
        "permissions": {"view": True, "create": "auth.add_group", "delete": False},
        "direction": "both",
        "writable": [],
        "where": {"name": ["a", "b"]},
        "description": "Grüße",
    }
    store(**full)
    store(stream="one-codename", permissions="auth.view_group", fields="__all__")
    store(stream="short", fields=None, exclude=["permissions"], enabled=False)
    text, records = Ran("export").out, state()[0]
    path.write_text(text)
    assert Ran("plan", str(path), "--prune").lines[-2] == "0 to add, 0 to change, 0 to remove, 3 unchanged."
    BindingRecord.objects.all().delete()
    Ran("apply", "--yes", str(path))
    assert state()[0] == records
    assert Ran("export").out == text


def test_one_invalid_record_stops_the_whole_apply(path: Path) -> None:
    """Nothing is stored. Every invalid record is named with file, index and JSON path."""
    write(path, USERS, {**GROUPS, "fields": ["naem"]}, {"stream": "third"}, 4, {**GROUPS, "stream": "intval"})
    with pytest.raises(CommandError) as caught:
        Ran("apply", "--yes", str(path))
    lines = str(caught.value).split("\n")
    assert lines[0] == "Nothing was stored."
    assert lines[1] == f"{path}[1]: {NAME_TEXT}"
    assert {line.split(": ")[0] for line in lines[1:]} == {f"{path}[{index}]" for index in (1, 2, 3, 4)}
    assert "the stream is already defined by example_site.example.bindings.IntegerValueBinding" in lines[-1]
    assert caught.value.returncode == 1
    assert state() == ({}, 0)


def test_plan_of_an_invalid_record_is_an_error(path: Path) -> None:
    """The status is 1, and every problem is listed, in text and as JSON."""
    write(path, USERS, {**GROUPS, "fields": ["naem"]})
    ran = Ran("plan", str(path))
    assert ran.status == 1
    assert ran.err.splitlines() == [f"{path}[1]: {NAME_TEXT}", "1 problem: apply would store nothing."]
    for verb in ("plan", "apply"):
        ran = Ran(verb, str(path), "--format", "json")
        assert (ran.status, ran.json["ok"]) == (1, False)
        assert ran.json["problems"][0]["where"] == f"{path}[1]"


def test_a_stream_in_two_files_is_reported_for_each_file(tmp_path: Path) -> None:
    """If two files of a folder define one stream, both are faulty."""
    write(tmp_path / "a.json", GROUPS)
    write(tmp_path / "b.json", USERS, GROUPS)
    assert Ran("plan", str(tmp_path)).err.splitlines()[:2] == [
        f"{tmp_path}/a.json[0]: $.stream: Binding 'groups' is defined again in {tmp_path}/b.json[1]. Keep one.",
        f"{tmp_path}/b.json[1]: $.stream: Binding 'groups' is defined again in {tmp_path}/a.json[0]. Keep one.",
    ]


def test_a_folder_is_read_completely(tmp_path: Path) -> None:
    """All its *.json files are read in the order of their names; other files are not."""
    write(tmp_path / "b.json", USERS)
    write(tmp_path / "a.json", GROUPS)
    (tmp_path / "notes.txt").write_text("no JSON")
    Ran("apply", "--yes", str(tmp_path))
    assert set(state()[0]) == {"groups", "users"}


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("nowhere.json", None, "Expected a file or a folder at {path}, found nothing."),
        ("folder", "", "Expected *.json files in the folder {path}, found none."),
    ],
)
def test_a_path_without_records_is_an_error(tmp_path: Path, name: str, content: str | None, text: str) -> None:
    """A mistyped path with --prune must not remove everything."""
    store()
    given = tmp_path / name
    if content is not None:
        given.mkdir()
    with pytest.raises(CommandError) as caught:
        Ran("apply", "--yes", str(given), "--prune")
    assert str(caught.value) == text.format(path=given)
    assert set(state()[0]) == {"groups"}


def test_a_file_that_is_no_json_is_named_with_line_and_column(path: Path) -> None:
    store()
    path.write_text('[\n  {"stream": "x",}\n]')
    with pytest.raises(CommandError, match=r"line 2, column \d+"):
        Ran("apply", "--yes", str(path), "--prune")
    assert set(state()[0]) == {"groups"}


def test_apply_accepts_the_hash_of_the_plan(path: Path) -> None:
    """The plan is carried out as it was shown."""
    write(path, GROUPS, USERS)
    Ran("apply", "--yes", str(path), "--plan", digest(str(path)))
    assert set(state()[0]) == {"groups", "users"}


@pytest.mark.parametrize("moved", ["database", "files", "prune"])
def test_an_old_plan_is_refused(path: Path, moved: str) -> None:
    """If the records, the files or --prune have changed since the plan, nothing is stored."""
    store(stream="spare")
    shown = digest(write(path, GROUPS))
    if moved == "database":
        BindingRecord.objects.update(description="edited by somebody else")
    elif moved == "files":
        write(path, GROUPS, USERS)
    before = state()
    with pytest.raises(CommandError, match=f"Expected to carry out plan {shown}, but it would now be"):
        Ran("apply", "--yes", str(path), "--plan", shown, *(["--prune"] if moved == "prune" else []))
    assert state() == before


def test_a_concurrent_edit_undoes_the_apply(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The version shows an edit that was made between reading and writing."""
    write(path, GROUPS)
    carry_out = plan._store

    def meddle(change: plan.PlannedChange, using: str) -> None:
        store(stream="meddler")
        carry_out(change, using)

    monkeypatch.setattr(plan, "_store", meddle)
    with pytest.raises(CommandError, match="Another user edited the configuration at the same time"):
        Ran("apply", "--yes", str(path))
    assert state() == ({}, 0)


def test_revisions_have_author_and_note(path: Path) -> None:
    """apply --user and --note are in the revision of each changed record, and of no other."""
    author = User.objects.create(username="operator")
    store(stream="same")
    write(path, GROUPS, {**GROUPS, "stream": "same"})
    Ran("apply", "--yes", str(path), "--user", "operator", "--note", "release 3")
    [revision] = BindingRevision.objects.exclude(note="")
    assert (revision.stream, revision.author, revision.note) == ("groups", author, "release 3")


def test_apply_replaces_an_invalid_record(path: Path) -> None:
    """The file's valid record replaces the stored one that is no longer valid."""
    store()
    BindingRecord._base_manager.update(fields=["naem"])
    Ran("apply", "--yes", write(path, GROUPS))
    assert state()[0] == {"groups": GROUPS}


def test_many_records_build_the_registry_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand records would take minutes otherwise. Afterwards all of them are in force at once."""
    built: list[Any] = []
    build = registry._build

    def count(*args: Any) -> registry.BindingRegistry:
        built.append(args)
        return build(*args)

    monkeypatch.setattr(registry, "_build", count)
    Ran("apply", "--yes", write(path, *({**USERS, "stream": f"users-{number}"} for number in range(20))))
    assert len(built) <= 2
    assert {f"users-{number}" for number in range(20)} <= set(registry.get_registry().by_stream)

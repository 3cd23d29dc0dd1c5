"""The verbs history and rollback; and with --format json every verb answers in JSON, whatever its outcome."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from django.contrib.auth.models import Group, User
from django.core.management import CommandError
from django.db import OperationalError

from declbind.console import history
from declbind.console.documents import fingerprint
from declbind.core.errors import ConfigError
from declbind.models import BindingRecord, BindingRevision, editing
from declbind.outbound import log
from tests.command_runs import GROUPS, NAME_TEXT, Ran, fresh_registry, node, spoil, store

pytestmark = pytest.mark.django_db

__all__ = ["fresh_registry"]


@pytest.fixture
def record() -> BindingRecord:
    """Return a record with three versions: created, described by an operator, opened to everyone."""
    record = store()
    with editing(User.objects.create(username="operator"), "why not", "groups.json"):
        record.description = "first"
        record.save()
    record.permissions = {"view": True}
    record.save()
    return record


def test_history_shows_author_time_note_and_changes(record: BindingRecord) -> None:
    """The edits are listed newest first, with their changes key by key."""
    lines = Ran("history", "groups").lines
    assert [line.split("  ")[0] for line in lines if line.startswith("version")] == [
        "version 3",
        "version 2",
        "version 1",
    ]
    assert '    permissions  null -> {"view": true}' in lines
    assert any(line.endswith("changed by operator from groups.json: why not") for line in lines)
    assert '    description  null -> "first"' in lines
    assert any(line.endswith("created by not known") for line in lines)
    [last] = Ran("history", "groups", "--limit", "1", "--format", "json").json
    assert last.pop("at")
    assert last == {
        "stream": "groups", "version": 3, "author": "", "note": "", "source": "", "verb": "changed",
        "differences": {"permissions": {"old": None, "new": {"view": True}}},
    }  # fmt: skip


def test_rollback_makes_a_new_revision(record: BindingRecord) -> None:
    """The old version is restored with author and note, and the history is kept."""
    ran = Ran("rollback", "groups", "1", "--user", "operator", "--note", "too open")
    assert ran.lines[-1] == "The configuration is at version 4."
    record.refresh_from_db()
    assert record.definition() == GROUPS
    revisions = list(BindingRevision.objects.values_list("version", "note", "author_name"))
    assert revisions[0] == (4, "too open", "operator")
    assert len(revisions) == 4
    assert Ran("rollback", "groups", "1").out == "Binding 'groups' already has this definition. Nothing was stored.\n"
    assert BindingRevision.objects.count() == 4
    made = Ran("rollback", "groups", "3", "--format", "json").json
    assert (made["ok"], made["changed"], made["version"], made["note"]) == (True, True, 5, "Back to version 3.")


def test_rollback_restores_a_removed_record(record: BindingRecord) -> None:
    """The last existing version is restored; the removal itself cannot be."""
    record.delete()
    with pytest.raises(CommandError, match="Version 4 removed binding 'groups', so there is nothing to restore"):
        Ran("rollback", "groups", "4")
    Ran("rollback", "groups", "3")
    assert BindingRecord.objects.get().permissions == {"view": True}


def test_rollback_is_validated(record: BindingRecord) -> None:
    """An invalid version is refused with its problem, and nothing is stored."""
    BindingRevision.objects.filter(version=1).update(definition={**GROUPS, "fields": ["naem"]})
    with pytest.raises(CommandError) as caught:
        Ran("rollback", "groups", "1")
    assert str(caught.value) == NAME_TEXT
    assert BindingRevision.objects.count() == 3
    record.refresh_from_db()
    assert record.permissions == {"view": True}


def test_an_invalid_record_can_be_rolled_back(record: BindingRecord) -> None:
    """A valid version replaces the invalid record."""
    spoil()
    Ran("rollback", "groups", "2")
    assert BindingRecord.objects.get().definition() == {**GROUPS, "description": "first"}


def test_rollback_over_a_concurrent_edit_is_refused(record: BindingRecord) -> None:
    """With the fingerprint of an outdated version it is refused; control: with the stored one it succeeds."""
    revision = history.find_revision("groups", 1, "default")
    seen = fingerprint(record.definition())
    BindingRecord.objects.update(description="theirs")
    with pytest.raises(ConfigError, match="Another user changed binding 'groups' in the meantime"):
        history.roll_back(revision, "default", None, "", seen)
    now = fingerprint(BindingRecord.objects.get().definition())
    assert history.roll_back(revision, "default", None, "", now) is not None
    BindingRecord.objects.all().delete()
    with pytest.raises(ConfigError, match="Another user removed binding 'groups' in the meantime"):
        history.roll_back(revision, "default", None, "", now)


def test_unknown_streams_and_versions_are_reported(record: BindingRecord) -> None:
    """The message suggests a similar stream, and lists the existing versions."""
    with pytest.raises(CommandError, match=r"No binding 'group' was ever stored .* Did you mean 'groups'\?"):
        Ran("history", "group")
    with pytest.raises(CommandError, match=r"got 9\. The last ones were 3, 2, 1\."):
        Ran("rollback", "groups", "9")


def test_edits_of_all_streams_since_a_version(record: BindingRecord) -> None:
    """Each edit comes with the stream's record before it, from the given version or a later edit."""
    store(stream="other")
    record.delete()
    steps = history.load_edits_since(1, "default")
    assert [(step.stream, step.version, step.verb) for step in steps] == [
        ("groups", 5, "removed"), ("other", 4, "created"), ("groups", 3, "changed"), ("groups", 2, "changed"),
    ]  # fmt: skip
    assert steps[2].differences == [("permissions", None, {"view": True})]
    assert steps[3].before == GROUPS
    assert history.load_edits_since(5, "default") == []


# As JSON ------------------------------------------------------------------------------------------------------------

FAILURES: list[list[str]] = [
    ["show", "nobody"],
    ["plan", "/nowhere.json"],
    ["apply", "--yes", "/nowhere.json"],
    ["apply", "--yes", "{path}", "--plan", "000000000000"],
    ["apply", "--yes", "{path}", "--user", "nobody"],
    ["export", "nobody"],
    ["preview", "groups", "0"],
    ["preview", "nobody", "1"],
    ["history", "nobody"],
    ["rollback", "nobody", "1"],
    ["rollback", "groups", "99"],
    ["rollback", "groups", "1", "--user", "nobody"],
]


@pytest.mark.parametrize("arguments", FAILURES, ids=[" ".join(item) for item in FAILURES])
def test_a_failure_is_json_too(arguments: list[str], tmp_path: Path) -> None:
    """It is printed on stdout, with status 1 and the text for people; nothing else is printed."""
    store()
    path = tmp_path / "records.json"
    path.write_text(json.dumps(GROUPS))
    given = [argument.format(path=path) for argument in arguments]
    with pytest.raises(CommandError) as caught:
        Ran(*given)
    ran = Ran(*given, "--format", "json")
    assert (ran.status, ran.err) == (1, "")
    assert ran.json == {"ok": False, "error": str(caught.value)}


def test_a_database_that_cannot_be_used_is_json_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """tail answers on one line, as usual."""

    def fail(using: str) -> object:
        raise OperationalError("no such table")

    monkeypatch.setattr(log, "load_head", fail)
    for verb in ("tail", "processes"):
        ran = Ran(verb, "--format", "json")
        assert ran.status == 1
        assert ran.json["error"].startswith("Database 'default' (")
        assert "reported an error (OperationalError: no such table)." in ran.json["error"]
    assert len(Ran("tail", "--format", "json").lines) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["list"], ["show", "groups"], ["show", "intval"], ["check"], ["plan", "{path}"], ["apply", "--yes", "{path}"],
        ["export"], ["export", "groups", "intval"], ["preview", "groups", "{pk}"], ["doctor"],
        ["tail", "--once", "--since", "0"], ["history", "groups"], ["rollback", "groups", "1"], ["processes"],
    ],
    ids=" ".join,
)  # fmt: skip
@pytest.mark.parametrize("is_sound", [True, False], ids=["sound", "spoilt"])
def test_every_verb_answers_in_json(arguments: list[str], is_sound: bool, tmp_path: Path) -> None:
    """One document, or with tail one on each line, with valid bindings and with an invalid one."""
    store()
    node(last_error="boom")
    row = Group.objects.create(name="staff")
    path = tmp_path / "records.json"
    path.write_text(json.dumps({**GROUPS, "description": "new"} if is_sound else {**GROUPS, "fields": ["naem"]}))
    if not is_sound:
        spoil()
    ran = Ran(*(argument.format(path=path, pk=row.pk) for argument in arguments), "--format", "json")
    assert ran.err == ""
    for text in ran.lines if arguments[0] == "tail" else [ran.out]:
        found = json.loads(text)
        if isinstance(found, dict) and "ok" in found:
            assert found["ok"] is (ran.status == 0)
        else:
            assert ran.status == 0

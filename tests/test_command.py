"""The verbs that read records: list, show, check, export and preview."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.core.management import CommandError
from pytest_django import Settings

from declbind.models import Event
from tests.command_runs import GROUPS, NAME_TEXT, Ran, fresh_registry, spoil, store

__all__ = ["fresh_registry"]

pytestmark = pytest.mark.django_db

# list, show, check, export --------------------------------------------------------------------------------------------


def test_list_shows_every_source_and_state() -> None:
    """One aligned line for each binding: on, off or invalid, and where it is defined."""
    store(enabled=False, stream="quiet")
    store()
    spoil()
    lines = Ran("list").lines
    assert lines[0].split() == ["STREAM", "STATE", "MODEL", "SOURCE", "WHERE"]
    column = lines[0].index("STATE")
    states = {line.split()[0]: line[column:].split()[0] for line in lines[1:]}
    assert states == {"intval": "on", "blog-desk": "on", "blog-posts": "on", "groups": "invalid", "quiet": "off"}
    assert "blog/bindings/posts.json[0]" in "".join(lines)


def test_list_as_json() -> None:
    """The JSON holds the same data, including the problems."""
    store()
    spoil()
    [found] = [item for item in Ran("list", "--format", "json").json if item["stream"] == "groups"]
    path, message = NAME_TEXT.split(": ", 1)
    assert found == {
        "stream": "groups",
        "model": "auth.Group",
        "source": "database",
        "where": "database record 'groups'",
        "state": "invalid",
        "problems": [{"path": path, "message": message}],
        "warnings": [],
        "drift": None,
        "misses": [],
        "waiting": [],
    }


def test_options_are_taken_before_and_after_the_verb() -> None:
    """Django's own options work after the verb too, where users type them."""
    assert Ran("list", "--database", "default", "-v", "2", "--no-color").status == 0
    with pytest.raises(CommandError, match="invalid choice: 'nowhere'"):
        Ran("list", "--database", "nowhere")


def test_show_describes_a_binding() -> None:
    """The output shows what is sent and accepted, the groups and the permissions, with defaults filled in."""
    shown = Ran("show", "blog-posts", "--format", "json").json
    assert shown["sends"] == ["blog", "title", "body", "published", "created", "modified"]
    assert shown["takes"] == ["blog", "title", "body"]
    assert shown["permissions"]["view"] == "anyone"
    assert shown["permissions"]["create"] == "who has blog.add_post"
    assert shown["record"]["stream"] == "blog-posts"
    by_code = Ran("show", "intval")
    assert "groups      by code" in by_code.lines
    assert "may view    by code" in by_code.lines


def test_show_suggests_a_similar_stream() -> None:
    """The error for an unknown stream names it."""
    with pytest.raises(CommandError) as caught:
        Ran("show", "blog-post")
    assert str(caught.value) == "$.stream: No source defines a binding 'blog-post'. Did you mean 'blog-posts'?"
    assert caught.value.returncode == 1


def test_check_accepts_valid_bindings() -> None:
    """The status is 0, and the output gives a count."""
    store()
    ran = Ran("check")
    assert (ran.status, ran.lines[-1]) == (0, "4 of 4 bindings valid.")


def test_check_names_the_one_invalid_record_of_a_hundred(settings: Settings, tmp_path: Path) -> None:
    """The status is 1, the message has file, index and JSON path, and the other 99 count as valid."""
    documents = [{**GROUPS, "stream": f"s{number}", "groups": []} for number in range(100)]
    documents[41]["fields"] = ["naem"]
    (tmp_path / "all.json").write_text(json.dumps(documents))
    settings.DECLBIND = {"RECORD_DIRS": [str(tmp_path)]}
    ran = Ran("check")
    assert ran.status == 1
    assert f"error    {tmp_path}/all.json[41]: {NAME_TEXT.replace('groups', 's41')}" in ran.lines
    assert sum(line.startswith("error") for line in ran.lines) == 1
    assert ran.lines[-1] == "102 of 103 bindings valid."


def test_check_as_json_and_with_warnings() -> None:
    """Warnings are shown and do not change the status; the JSON has a key "ok"."""
    store(fields=[], exclude=None)
    ran = Ran("check", "--format", "json")
    assert (ran.status, ran.json["ok"]) == (0, True)
    assert "uses 'name', which is not sent" in ran.out
    spoil()
    ran = Ran("check", "--format", "json")
    assert (ran.status, ran.json["ok"]) == (1, False)


def test_check_reports_a_stream_of_two_sources_for_each_source(settings: Settings, tmp_path: Path) -> None:
    """There are two errors, each with the place of the other."""
    store()
    (tmp_path / "one.json").write_text(json.dumps(GROUPS))
    settings.DECLBIND = {"RECORD_DIRS": [str(tmp_path)]}
    ran = Ran("check")
    assert ran.status == 1
    assert [line.split(": ")[0].split(None, 1)[1] for line in ran.lines if line.startswith("error")] == [
        f"{tmp_path}/one.json",
        "database record 'groups'",
    ]


def test_export_writes_the_records_of_the_database_in_order() -> None:
    """A JSON list by stream, keys in the order of the published table, defaults left out."""
    store(stream="zebra", where={"name": "z", "id": 1}, permissions={"delete": False, "view": True})
    store()
    exported = Ran("export").json
    assert [record["stream"] for record in exported] == ["groups", "zebra"]
    assert list(exported[1]) == ["stream", "model", "fields", "groups", "permissions", "where"]
    assert list(exported[1]["permissions"]) == ["view", "delete"]
    assert list(exported[1]["where"]) == ["id", "name"]


def test_export_takes_named_bindings_of_any_source() -> None:
    """The record of a file is exported unchanged, without $schema; for a class the equivalent record."""
    exported = Ran("export", "intval", "blog-desk").json
    assert [record["stream"] for record in exported] == ["blog-desk", "intval"]
    assert exported[1] == {
        "stream": "intval",
        "model": "example.IntegerValue",
        "fields": ["name", "value"],
        "auto_subscribe": True,
    }
    with pytest.raises(CommandError, match="No source defines a binding 'nobody'"):
        Ran("export", "nobody")


# preview --------------------------------------------------------------------------------------------------------------


def test_preview_is_the_frame_that_a_save_sends() -> None:
    """The frame equals, byte for byte, the one that a save sends, and the groups are the row's."""
    store()
    row = Group.objects.create(name="staff")
    made = Ran("preview", "groups", str(row.pk), "--format", "json").json
    assert made["payload"] == {"action": "update", "pk": row.pk, "data": {"name": "staff"}, "model": "auth.group"}
    assert made["groups"] == ["name-staff"]
    row.save()
    event = Event.objects.filter(stream="groups").latest("id")
    assert made["frame"] == (
        f'{{"stream":"groups","payload":{{"action":"update","pk":{event.object_pk},'
        f'"data":{event.data},"model":"{event.model}"}}}}'
    )
    assert json.loads(event.changes) == [["name-staff", "update"]]


def test_preview_shows_who_may_see_the_row() -> None:
    """An anonymous visitor, a user without and one with the permission; by name and by primary key."""
    store()
    row = Group.objects.create(name="staff")
    reader = User.objects.create(username="reader")
    rule = "view is for who has auth.view_group"
    assert Ran("preview", "groups", str(row.pk)).lines[-1] == (
        f'an anonymous visitor may not see it in group name-staff with params {{"name": "staff"}}: {rule}.'
    )
    refused = Ran("preview", "groups", str(row.pk), "--user", "reader", "--format", "json").json
    assert [verdict["allowed"] for verdict in refused["verdicts"]] == [False]
    reader.user_permissions.add(Permission.objects.get(codename="view_group"))
    allowed = Ran("preview", "groups", str(row.pk), "--user", str(reader.pk), "--format", "json").json
    assert allowed["user"] == "reader"
    assert [verdict["allowed"] for verdict in allowed["verdicts"]] == [True]


def test_preview_applies_the_scope() -> None:
    """A row of another user is not visible, whatever permission is held."""
    store(stream="own", model="auth.User", fields=["username"], groups=["user-{id}"], scope={"id": "$user.pk"},
          permissions={"view": True})  # fmt: skip
    mine, other = User.objects.create(username="me"), User.objects.create(username="other")
    for row, allowed in ((mine, True), (other, False)):
        made = Ran("preview", "own", str(row.pk), "--user", "me", "--format", "json").json
        assert [verdict["allowed"] for verdict in made["verdicts"]] == [allowed]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["groups", "0"], "There is no auth.Group with the primary key '0'."),
        (["groups", "one"], "Expected a primary key of auth.Group, got 'one'"),
        (["groups", "0", "--user", "nobody"], "Expected a user's name or primary key, got 'nobody': there is none."),
        (["group", "0"], "No source defines a binding 'group'. Did you mean 'groups'?"),
    ],
)
def test_preview_says_what_is_missing(arguments: list[str], text: str) -> None:
    store()
    with pytest.raises(CommandError) as caught:
        Ran("preview", *arguments)
    assert text in str(caught.value)


def test_preview_names_a_row_outside_of_where() -> None:
    store(where={"name": "staff"})
    row = Group.objects.create(name="guests")
    with pytest.raises(CommandError, match="is outside 'where'"):
        Ran("preview", "groups", str(row.pk))

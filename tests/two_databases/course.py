"""Tests with users in one database and bound models in another. Collected by the inner run only."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, Permission, User
from django.contrib.sessions.backends.db import SessionStore
from django.core import checks as django_checks
from django.core.management import call_command
from django.db import OperationalError, connections, transaction
from django.test import Client as Browser
from django.utils import timezone

from declbind.inbound import blocks
from declbind.models import BindingRecord, BindingRevision, Block, Configuration, Connection, Event, Node, SavedView
from declbind.outbound import log, relay
from declbind.registry import database_alias, refresh
from declbind.testing import Client
from tests.console_forms import post_confirmed, read_form
from tests.two_databases.shop.models import Note

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

LIST = "/admin/declbind/bindingrecord/"
NOTES = {
    "stream": "notes", "model": "shop.Note", "fields": ["text", "room", "writer_pk"], "groups": ["room-{room}"],
    "permissions": {"view": "shop.view_note", "create": "shop.add_note"}, "writable": ["text", "room"],
}  # fmt: skip
OWN = {
    "stream": "own", "model": "shop.Note", "fields": ["text"], "groups": ["of-{writer_pk}"],
    "scope": {"writer_pk": "$user.pk"}, "permissions": {"view": True},
}  # fmt: skip


@pytest.fixture(autouse=True)
def fresh_registry() -> object:
    refresh(force=True)
    yield
    refresh(force=True)


def run(*arguments: str) -> str:
    out = io.StringIO()
    call_command("declbind", *arguments, stdout=out, stderr=out, no_color=True)
    return out.getvalue()


def apply(folder: Path, *records: dict[str, Any], user: str = "") -> str:
    file = folder / "records.json"
    file.write_text(json.dumps(records))
    return run("apply", "--yes", str(file), *(["--user", user, "--note", "first"] if user else []))


def make_user(name: str, *codenames: str, **values: Any) -> User:
    user = User.objects.create_user(name, password="pw", **values)
    for codename in codenames:
        app_label, code = codename.split(".")
        user.user_permissions.add(Permission.objects.get(content_type__app_label=app_label, codename=code))
    return user


def tables(alias: str) -> set[str]:
    return set(connections[alias].introspection.table_names())


# Tables and commands -------------------------------------------------------------------------------------------------


def test_each_table_is_in_one_database() -> None:
    """No foreign key of declbind refers to a table in another database."""
    assert database_alias() == "other"
    assert {"declbind_event", "declbind_bindingrecord", "shop_note"} <= tables("other")
    assert not {table for table in tables("default") if table.startswith(("declbind_", "shop_"))}
    assert "auth_user" in tables("default")
    assert "auth_user" not in tables("other")
    for table in tables("other"):
        with connections["other"].cursor() as cursor:
            found = connections["other"].introspection.get_constraints(cursor, table).values()
        assert not [constraint for constraint in found if constraint["foreign_key"]], table
    connections["other"].check_constraints()


def test_apply_names_its_author(tmp_path: Path) -> None:
    """Key and name stay when the user is deleted; the record, its revision and its event are in one database."""
    ann = make_user("ann")
    assert "The configuration is at version" in apply(tmp_path, NOTES, user="ann")
    revision = BindingRevision.objects.get()
    assert revision._state.db == "other"
    assert (revision.author_pk, revision.author_name, revision.author) == (str(ann.pk), "ann", ann)
    assert "by ann" in run("history", "notes")
    ann.delete()
    revision = BindingRevision.objects.get()
    assert (revision.author_name, revision.author) == ("ann", None)
    assert "by ann" in run("history", "notes")
    record = BindingRecord.objects.get()
    record.description = "changed"
    record.save()
    assert "The configuration is at version" in run("rollback", "notes", str(revision.version))


@pytest.mark.parametrize("verb", ["list", "check", "show notes", "export", "doctor", "connections", "processes"])
def test_commands_find_their_tables(tmp_path: Path, verb: str) -> None:
    """Commands work without ``--database``."""
    apply(tmp_path, NOTES)
    Node.objects.create(id="n", host="web", pid=7, started_at=timezone.now(), seen_at=timezone.now(),
                        **dict(zip(("generation", "version"), _configuration(), strict=True)))  # fmt: skip
    assert run(*verb.split(), *([] if verb == "export" else ["--format", "json"]))


def _configuration() -> tuple[str, int]:
    row = Configuration.objects.get()
    return row.generation, row.version


def test_checks_of_both_databases(tmp_path: Path) -> None:
    """There is no warning; a problem of a record is found in its own database, and W004 is not reported."""
    apply(tmp_path, NOTES, OWN)
    for databases in (["default"], ["other"], ["default", "other"]):
        assert found_by_checks(databases) == set()
    BindingRecord._base_manager.filter(stream="notes").update(fields=["txet"])
    assert found_by_checks(["other"]) == {"declbind.W002"}
    assert found_by_checks(["default"]) == set()


def found_by_checks(databases: list[str]) -> set[str]:
    ids = {str(message.id) for message in django_checks.run_checks(databases=databases)}
    return {id_ for id_ in ids if id_.startswith("declbind.")}


def test_a_missing_table_is_named_by_its_database() -> None:
    """The message names the database that the router names; the other one is not queried."""
    with connections["other"].cursor() as cursor:
        cursor.execute("ALTER TABLE declbind_watch RENAME TO moved")
    try:
        found = [m for m in django_checks.run_checks(databases=["other"]) if m.id == "declbind.W013"]
        assert [(m.msg, m.hint) for m in found] == [
            (
                (
                    "Database 'other', where the records and the event log belong, lacks the tables 'declbind_watch'. "
                    "Nothing is captured and no socket is served."
                ),
                "Run `manage.py migrate --database other`.",
            )
        ]
        assert [m for m in django_checks.run_checks(databases=["default"]) if m.id == "declbind.W013"] == []
    finally:
        with connections["other"].cursor() as cursor:
            cursor.execute("ALTER TABLE moved RENAME TO declbind_watch")


# Sockets -------------------------------------------------------------------------------------------------------------


class Login:
    """A user of ``default`` with a session there."""

    def __init__(self, *codenames: str) -> None:
        self.user = make_user(f"user{User.objects.count()}", *codenames)
        self.browser = Browser()
        self.browser.force_login(self.user)

    def client(self) -> Client:
        return Client(user=self.user, session=SessionStore(self.browser.session.session_key))


async def log_in(*codenames: str) -> Login:
    login: Login = await sync_to_async(Login)(*codenames)
    return login


async def test_a_save_arrives_and_a_client_writes(tmp_path: Path) -> None:
    """Delivery, a snapshot, a client's write, and a scope by the key of a user of the other database."""
    await sync_to_async(apply)(tmp_path, NOTES, OWN)
    login = await log_in("shop.view_note", "shop.add_note")
    async with login.client() as client:
        reply = await client.request("notes", "subscribe", params={"room": 1}, snapshot=True)
        assert reply["ok"], reply
        assert (await client.receive())["payload"]["objects"] == []
        assert (await client.request("own", "subscribe", params={}))["ok"]
        note = await Note.objects.acreate(text="saved", writer_pk=login.user.pk)
        assert (await client.receive())["payload"]["data"]["text"] == "saved"
        assert (await client.receive())["stream"] == "own"
        made = await client.request("notes", "create", data={"text": "written", "room": 1})
        assert made["ok"], made
        assert (await client.receive())["payload"]["pk"] == made["pk"]
        await Note.objects.filter(pk=note.pk).aupdate(room=2)
        assert (await client.receive())["payload"]["action"] == "delete"


def lose_permission(login: Login) -> None:
    login.user.user_permissions.clear()


def change_password(login: Login) -> None:
    login.user.set_password("another")
    login.user.save()


def deactivate(login: Login) -> None:
    User.objects.filter(pk=login.user.pk).update(is_active=False)


@pytest.mark.parametrize(
    ("lose", "ending"),
    [
        (lambda login: login.browser.logout(), 4401),
        (change_password, 4401),
        (deactivate, 4401),
        (lambda login: login.user.delete(), 4401),
        (lose_permission, "closed"),
        (lambda login: Permission.objects.get(codename="view_note").delete(), "closed"),
        (lambda login: blocks.block(str(login.user.pk), timedelta(hours=1)), 4403),
    ],
    ids=["logout", "password", "deactivate", "delete", "permission", "codename", "block"],
)
async def test_a_permission_removed_in_the_other_database_ends_its_subscriptions(
    tmp_path: Path, lose: Callable[[Login], Any], ending: int | str
) -> None:
    """The control event is in the log's database, after the commit. A later event does not reach the client."""
    await sync_to_async(apply)(tmp_path, NOTES)
    login = await log_in("shop.view_note")
    async with login.client() as client:
        assert (await client.request("notes", "subscribe", params={"room": 1}))["ok"]
        await sync_to_async(lose)(login)
        await Note.objects.acreate(text="late")
        if ending == "closed":
            assert (await client.receive())["payload"] == {"action": "closed", "reason": "permission"}
            assert await client.is_silent()
        else:
            assert await client.wait_closed() == ending
    assert await Event.objects.filter(kind=Event.CONTROL).aexists()


def controls() -> list[str]:
    return [json.loads(text)["type"] for text in Event.objects.filter(kind="control").values_list("data", flat=True)]


def test_a_change_that_is_rolled_back_leaves_no_control_event() -> None:
    """The event is stored after the commit of the change, which does not happen."""
    user = make_user("ann")
    with transaction.atomic(using="default"):
        user.set_password("x")
        user.save()
        assert controls() == []
        transaction.set_rollback(True, using="default")
    assert controls() == []
    with transaction.atomic(using="default"):
        user.save()
        assert controls() == [], "not before the commit: a hub would find the old rights"
    assert controls() == ["users"]


def test_an_unavailable_log_does_not_break_the_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """The change of the user is kept, and the repeated check of each process detects it."""

    def fail(*args: object, **kwargs: object) -> None:
        raise OperationalError("the server is away")

    user = make_user("ann")
    monkeypatch.setattr(log, "append_control", fail)
    user.is_active = False
    user.save()
    user.refresh_from_db()
    assert not user.is_active


# The admin -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def operator() -> Browser:
    browser = Browser()
    browser.force_login(User.objects.create_superuser("operator", password="pw"))
    return browser


def test_every_page_answers(tmp_path: Path, operator: Browser) -> None:
    """Pages show the names of users of the other database."""
    apply(tmp_path, NOTES, user="operator")
    ann = make_user("ann", "shop.view_note")
    note = Note.objects.create(text="hello", writer_pk=ann.pk)
    relay.run_once("other")
    record, revision, now = BindingRecord.objects.get(), BindingRevision.objects.get(), timezone.now()
    Node.objects.create(id="n", host="web", pid=7, started_at=now, seen_at=now)
    heard = json.dumps([["notes", "room-1", None, 0, ""]], separators=(",", ":"))
    Connection.objects.create(
        id="c1", node="n", user_pk=str(ann.pk), username="ann", opened_at=now, subscriptions=heard
    )
    event = Event.objects.filter(stream="notes", kind=Event.ROW).get()
    pages = {
        "": "notes", "add/?model=shop.Note": "shop.Note", f"{record.pk}/change/": "operator",
        f"{record.pk}/json/": "shop.Note", f"{record.pk}/history/": "", f"{record.pk}/delete/": "",
        f"rollback/{revision.pk}/": "operator", "live/": "notes", f"live/row/e{event.pk}/": "room-1",
        f"why/?stream=notes&row={note.pk}&user=ann": "ann",
        f"try/?stream=notes&action=view&pk={note.pk}&who=ann": "hello",
        "try/?stream=notes&action=create&who=ann&values=%7B%22text%22:%22x%22%7D": "ann",
        "connections/": "ann", "connections/c1/": "ann", "processes/": "web", "doctor/": "", "import/": "",
        "/admin/declbind/bindingrevision/": "operator",
        f"/admin/declbind/bindingrevision/{revision.pk}/change/": "operator",
        "/admin/declbind/node/": "web", "/admin/": "", "export/": "notes",
    }  # fmt: skip
    for path, text in pages.items():
        answer = operator.get(path if path.startswith("/") else LIST + path)
        assert answer.status_code == 200, path
        assert text in answer.content.decode(), path


def test_the_form_stores_and_both_logs_have_the_author(operator: Browser) -> None:
    """The admin's log is in the database of users, the revision in that of records."""
    data = read_form(operator.get(f"{LIST}add/").content.decode())
    data |= {
        "stream": "notes", "model": "shop.Note", "enabled": "on", "fields_mode": "these", "fields_names": "text",
        "permissions_view": "everyone", "direction": "both", "note": "by hand",
    }  # fmt: skip
    assert post_confirmed(operator, f"{LIST}add/", data).status_code == 302
    record = BindingRecord.objects.get()
    assert BindingRevision.objects.get().author_name == "operator"
    entry = LogEntry.objects.get()
    assert (entry._state.db, entry.object_id, entry.user.username) == ("default", str(record.pk), "operator")
    for action, enabled in (("disable", False), ("enable", True)):
        answer = operator.post(LIST, {"action": action, "_selected_action": [record.pk]})
        if action == "enable":
            ticked = re.search(r'name="confirm_widening" value="([0-9a-f]+)"', answer.content.decode())
            assert ticked
            asked = {"action": action, "_selected_action": [record.pk], "confirm_widening": ticked[1]}
            answer = operator.post(LIST, asked)
        assert answer.status_code == 302
        record.refresh_from_db()
        assert record.enabled is enabled
    text = json.dumps([{**NOTES, "stream": "imported", "permissions": {"view": False}}])
    review = operator.post(f"{LIST}import/", {"text": text}).content.decode()
    hidden = dict(re.findall(r'name="(plan|version|generation|source)" value="([^"]*)"', review))
    sent = {**hidden, "text": text, "_apply": "yes", "confirm_widening": "yes"}
    assert operator.post(f"{LIST}import/", sent).status_code == 302
    chosen = {"action": "delete_selected", "_selected_action": [record.pk], "post": "yes"}
    assert operator.post(LIST, chosen).status_code == 302
    assert [r.stream for r in BindingRecord.objects.all()] == ["imported"]
    assert {revision.author_name for revision in BindingRevision.objects.all()} == {"operator"}


def test_saved_views_and_blocks_belong_to_users_of_the_other_database(operator: Browser) -> None:
    """They refer to users by key; the views of a deleted user are deleted."""
    assert operator.post(f"{LIST}live/views/", {"name": "mine", "query": "q=a"}).status_code == 302
    assert "mine" in operator.get(f"{LIST}live/").content.decode()
    ann, root = make_user("ann"), User.objects.get(username="operator")
    now = timezone.now()
    Node.objects.create(id="n", host="web", pid=7, started_at=now, seen_at=now)
    Connection.objects.create(id="c1", node="n", user_pk=str(ann.pk), username="ann", opened_at=now)
    answer = operator.post(f"{LIST}connections/c1/", {"seconds": "600", "reason": "Noise."})
    assert answer.status_code == 302
    block = Block.objects.get()
    assert (block.user_pk, block.author_name, block.author) == (str(ann.pk), "operator", root)
    assert "by operator" in operator.get(f"{LIST}connections/").content.decode()
    with transaction.atomic(using="default"):
        root.delete()
        assert SavedView.objects.exists(), "not before the commit"
    assert not SavedView.objects.exists()


def test_groups_grant_across_databases(tmp_path: Path) -> None:
    """The visibility of a row is computed with the database of users."""
    apply(tmp_path, NOTES)
    group = Group.objects.create(name="readers")
    group.permissions.add(Permission.objects.get(codename="view_note"))
    ann = make_user("ann")
    ann.groups.add(group)
    note = Note.objects.create(text="hello")
    assert "ann" in run("preview", "notes", str(note.pk), "--user", "ann")
    asked = ("try", "notes", "--action", "view", "--user", "ann", "--pk", str(note.pk))
    assert json.loads(run(*asked, "--format", "json"))["error"] is None

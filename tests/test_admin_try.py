"""The page that tries a binding: its permissions, its answers, and that it stores nothing."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.contrib.admin import AdminSite
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.test import Client, override_settings
from django.urls import include, path
from django.utils import timezone

from admin_ui.records import BindingRecordAdmin
from declbind import WebsocketBinding
from declbind.models import BindingRecord, BindingRevision, Connection, Event, Node
from declbind.registry import override
from tests.console_forms import LIST, save, staff
from tests.factories import AnimalFactory, make_user
from tests.zoo.clients import ANIMALS
from tests.zoo.models import Animal

pytestmark = pytest.mark.django_db
TRY = f"{LIST}try/"
VIEW, CHANGE, WATCH = "declbind.view_bindingrecord", "declbind.change_bindingrecord", "declbind.view_traffic"
READ = "zoo.view_animal"
GROUPED = {**ANIMALS, "groups": ["legs-{legs}"]}


def post(client: Client, **sent: object) -> Any:
    with override(GROUPED):
        return client.post(TRY, {"stream": "animals", **sent})


def get(client: Client, record: Any = GROUPED, **asked: Any) -> Any:
    with override(record):
        return client.get(TRY, {"stream": "animals", **asked})


def text_of(response: Any) -> str:
    assert response.status_code == 200
    return str(response.content.decode())


# Permissions ----------------------------------------------------------------------------------------------------------


def test_trying_a_binding_needs_the_permission_to_view_bindings():
    """Other users are refused, and anonymous users are redirected to the login page."""
    assert get(staff(VIEW)).status_code == 200
    assert get(staff(CHANGE, name="editor")).status_code == 200
    assert get(staff(name="other")).status_code == 403
    assert "/login/" in get(Client())["Location"]
    assert f'href="{TRY}"' in staff(VIEW, name="third").get(LIST).content.decode()


def test_trying_as_another_user_needs_a_permission_and_is_logged():
    """Trying as oneself or as an anonymous visitor needs none.

    Without it, the page does not disclose whether a user exists.
    """
    make_user(username="ann")
    row = AnimalFactory.create()
    plain = staff(VIEW, name="plain")
    for who in ("ann", "nobody-at-all"):
        refused = get(plain, action="view", pk=row.pk, who=who)
        assert "requires the permission declbind.view_traffic" in text_of(refused)
        assert refused.context["trial"] is None
    own = str(User.objects.get(username="plain").pk)
    for who in ("", "plain", own):
        assert get(plain, action="view", pk=row.pk, who=who).context["trial"].verdict == "ok"
    assert not LogEntry.objects.exists()
    watcher = staff(VIEW, WATCH, name="watcher")
    assert get(watcher, action="view", pk=row.pk, who="ann").context["trial"].user == "ann"
    entry = LogEntry.objects.get()
    assert (entry.object_repr, str(entry.user)) == ("animals", "watcher")
    assert entry.change_message == f"Tried as ann: sees rows (subscribes), row {row.pk}."


def test_the_viewers_key_is_not_read_as_a_name():
    """A user whose name equals the viewer's key is another user."""
    viewer = staff(VIEW, name="viewer")
    key = str(User.objects.get(username="viewer").pk)
    make_user(username=key)
    assert get(viewer, action="view", params='{"legs": 1}', who=key).context["trial"].user == "viewer"


def test_carrying_out_needs_the_permission_to_change_and_is_logged():
    """It may run the project's code. Every viewer may validate."""
    row = AnimalFactory.create(legs=2)
    ask = {"action": "update", "pk": row.pk, "values": "legs = 5"}
    reader = staff(VIEW, name="reader")
    assert "requires the permission to change bindings" in text_of(post(reader, carry_out="1", **ask))
    assert post(reader, **ask).context["trial"].verdict == "ok"
    assert not LogEntry.objects.exists()
    editor = staff(CHANGE, name="editor")
    made = post(editor, carry_out="1", **ask).context["trial"]
    assert "rolled back" in made.step("store").text
    assert "carried out and rolled back" in LogEntry.objects.get().change_message
    row.refresh_from_db()
    assert row.legs == 2


def test_values_need_the_permission_to_view_the_model():
    """This holds for frames, rows and the text for a ticket. A user with the permission is the control."""
    row = AnimalFactory.create(name="hush-hush")
    for asked in ({"action": "view"}, {"action": "outbound"}):
        assert "hush-hush" in text_of(get(staff(VIEW, READ, name=f"r{asked['action']}"), pk=row.pk, **asked))
        shaped = text_of(get(staff(VIEW, name=f"s{asked['action']}"), pk=row.pk, **asked))
        assert "hush-hush" not in shaped
        assert "text, 9 characters" in shaped


def test_names_of_recipients_need_the_permission_to_watch():
    """Other users see only how many there are."""
    make_user(username="somebody")
    row = AnimalFactory.create(legs=2)
    now = timezone.now()
    Node.objects.create(id="n", host="h", pid=1, started_at=now, seen_at=now)
    heard = json.dumps([["animals", "legs-2", None, 0, ""]], separators=(",", ":"))
    Connection.objects.create(id="c", node="n", username="listener", user_pk="1", opened_at=now, subscriptions=heard)
    seen = text_of(get(staff(VIEW, WATCH, name="watcher"), action="view", pk=row.pk))
    assert "listener" in seen
    assert "somebody" in seen
    counted = text_of(get(staff(VIEW, name="reader"), action="view", pk=row.pk))
    assert "listener" not in counted
    assert "somebody" not in counted
    assert "1 connection now." in counted


# Questions ------------------------------------------------------------------------------------------------------------


def test_a_question_that_changes_nothing_is_in_the_address():
    """The form redirects to an address that gives the same answer to a colleague."""
    row = AnimalFactory.create(legs=2)
    client = staff(VIEW, READ)
    response = post(client, action="outbound", pk=row.pk, values="legs = 7", revision="")
    assert response.status_code == 302
    assert parse_qs(urlsplit(response["Location"]).query) == {
        "stream": ["animals"], "action": ["outbound"], "pk": [str(row.pk)], "values": ["legs = 7"],
    }  # fmt: skip
    assert "csrf" not in response["Location"]
    with override(GROUPED):
        page = client.get(response["Location"])
    assert [frame.group for frame in page.context["trial"].frames] == ["legs-2", "legs-7"]


def test_an_address_never_tries_a_write():
    """A link can fill the form in. A write is tried only when the form is submitted."""
    row = AnimalFactory.create()
    page = get(staff(CHANGE), action="delete", pk=row.pk, carry_out="1")
    assert page.context["trial"] is None
    assert '<option value="delete" selected>' in text_of(page)
    checked = Client(enforce_csrf_checks=True)
    checked.force_login(User.objects.get(username="staff"))
    assert post(checked, action="delete", pk=row.pk).status_code == 403
    assert Animal.objects.filter(pk=row.pk).exists()


@pytest.mark.parametrize("values", ["legs = 5\nname = Bea", '{"legs": 5, "name": "Bea"}'])
def test_values_are_lines_or_a_json_object(values):
    """Both forms have the same meaning."""
    row = AnimalFactory.create(legs=2)
    made = post(staff(VIEW, READ), action="update", pk=row.pk, values=values).context["trial"]
    assert made.question.values == {"legs": 5, "name": "Bea"}
    assert [(frame.group, frame.action) for frame in made.frames] == [("legs-2", "delete"), ("legs-5", "create")]


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        ({"action": "create", "values": "legs"}, "expected &#x27;field = value&#x27;"),
        ({"action": "create", "values": "{"}, "expected a JSON object"),
        ({"action": "create", "revision": "x"}, "Expected the number of a revision"),
        ({"action": "create", "revision": "77"}, "There is no revision 77"),
        ({"action": "create", "document": "[]"}, "Expected one binding record"),
        ({"action": "explode"}, "Expected an action"),
    ],
)
def test_unreadable_input_is_reported_beside_the_form(sent, text):
    """The form keeps the submitted values."""
    client = staff(CHANGE)
    response = post(client, **sent)
    page = text_of(response if response.status_code == 200 else get(client, **sent))
    assert text in page
    assert 'role="alert"' in page


def test_an_old_revision_and_an_edited_record_can_be_chosen():
    """Only revisions of the stream are offered.

    An edited record is submitted by the form, since it is too long for an address.
    """
    record = save(GROUPED)
    record.permissions = {"view": False}
    record.save()
    first, last = BindingRevision.objects.order_by("pk")
    row = AnimalFactory.create()
    client = staff(VIEW, CHANGE, READ, "zoo.add_animal", "zoo.change_animal", "zoo.delete_animal")
    ask = {"stream": "animals", "action": "view", "pk": row.pk}
    old = client.get(TRY, {**ask, "revision": first.pk})
    assert old.context["trial"].verdict == "ok"
    assert f'<option value="{first.pk}" selected>' in text_of(old)
    assert client.get(TRY, {**ask, "revision": last.pk}).context["trial"].refusal.name == "permission"
    edited = client.post(TRY, {**ask, "document": json.dumps({**GROUPED, "permissions": {"view": True}})})
    assert edited.context["trial"].verdict == "ok"
    assert BindingRecord.objects.get().permissions == {"view": False}


def test_a_fault_in_code_is_shown():
    """A fault in the project's code does not break the page."""

    class Failing(WebsocketBinding):
        model = Animal
        stream = "animals"
        fields = ["name"]
        permissions = {"view": True, "create": True}

        def has_permission(self, user, action, pk):
            raise RuntimeError("out of order")

    with override(Failing):
        page = staff(VIEW, READ).post(TRY, {"stream": "animals", "action": "create", "values": "name = x"})
    assert "the project&#x27;s code failed with RuntimeError: out of order" in text_of(page)


def test_the_table_links_to_the_trial_of_each_binding():
    """The link contains the same question."""
    page = text_of(get(staff(VIEW), stream="", action="view", pk=AnimalFactory.create().pk))
    assert "By binding" in page
    assert "stream=animals&amp;action=view" in page


# Links ----------------------------------------------------------------------------------------------------------------


def test_the_answer_links_to_the_live_page_and_has_a_text_for_a_ticket():
    """The link needs the permission to watch. The text needs no script."""
    row = AnimalFactory.create()
    page = text_of(get(staff(VIEW, WATCH), action="view", pk=row.pk))
    assert f'href="{LIST}live/?stream=animals&amp;row={row.pk}"' in page
    assert "Try it: an anonymous visitor: sees rows (subscribes), stream animals" in page
    assert f'href="{LIST}live/' not in text_of(get(staff(VIEW, name="reader"), action="view", pk=row.pk))


def test_an_address_may_use_the_short_names_of_row_and_user():
    """Other pages of the console link here with them."""
    row = AnimalFactory.create()
    trial = get(staff(VIEW), action="view", row=row.pk, user="staff").context["trial"]
    assert (trial.question.pk, trial.user) == (row.pk, "staff")


def test_a_trial_adds_no_event():
    """The log and the row are unchanged."""
    row = AnimalFactory.create()
    client = staff(CHANGE)
    before = list(Event.objects.values_list("pk", flat=True))
    post(client, action="update", pk=row.pk, values="legs = 9", carry_out="1")
    post(client, action="create", values="name = New", carry_out="1")
    post(client, action="delete", pk=row.pk, carry_out="1")
    assert list(Event.objects.values_list("pk", flat=True)) == before
    assert Animal.objects.count() == 1


class Markup(HTMLParser):
    """A parser that collects markup that a strict policy forbids, and controls without a label."""

    def __init__(self) -> None:
        super().__init__()
        self.forbidden: list[str] = []
        self.controls: list[str] = []
        self.labelled: set[str] = set()
        self.inside_label = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if "style" in given or any(name.startswith("on") for name in given) or (tag == "script" and "src" not in given):
            self.forbidden.append(tag)
        if tag == "label":
            self.inside_label += 1
            self.labelled.add(given.get("for") or "")
        is_control = tag in ("select", "textarea") or (tag == "input" and given.get("type") in ("text", "checkbox"))
        if is_control and not self.inside_label:
            self.controls.append(given.get("id") or "?")

    def handle_endtag(self, tag: str) -> None:
        self.inside_label -= tag == "label"


def test_the_page_keeps_to_a_strict_policy_and_labels_its_controls():
    """There is no inline script, style or handler, and each control has a label."""
    row = AnimalFactory.create()
    page = text_of(get(staff(CHANGE, WATCH, READ), action="view", pk=row.pk))
    markup = Markup()
    markup.feed(page[page.index('id="content-main"') :])
    assert markup.forbidden == []
    assert set(markup.controls) <= markup.labelled


def test_input_is_escaped():
    """The page shows markup in its input as text."""
    bad = "<script>alert(1)</script>"
    row = AnimalFactory.create(name=bad)
    client = staff(CHANGE, WATCH, READ)
    assert bad not in text_of(get(client, action="view", pk=row.pk))
    assert bad not in text_of(get(client, action="outbound", pk=row.pk, values=json.dumps({bad: bad})))
    assert bad not in text_of(post(client, action="create", values=bad, document=bad))


site = AdminSite(name="house")
site.register(BindingRecord, BindingRecordAdmin)
urlpatterns = [path("house/", include((site.get_urls(), "admin"), namespace="house"))]


@override_settings(ROOT_URLCONF=__name__)
def test_the_page_works_under_another_admin_site():
    """Its links stay on that site."""
    client = staff(VIEW, WATCH)
    with override(GROUPED):
        page = client.get("/house/declbind/bindingrecord/try/", {"stream": "animals", "action": "view"})
    assert "/house/declbind/bindingrecord/live/" in text_of(page)
    assert 'href="/admin/' not in text_of(page)


# What a trial must not disclose ---------------------------------------------------------------------------------------

SPYING = {**ANIMALS, "groups": ["name-{name}"]}


@pytest.mark.parametrize("right", [VIEW, "declbind.delete_bindingrecord"])
def test_trying_an_edited_record_needs_the_permission_to_edit(right):
    """Its groups could name any field of any row. An editor is the control."""
    row = AnimalFactory.create(name="hidden-value")
    ask = {"action": "outbound", "pk": row.pk, "document": json.dumps(SPYING)}
    told = post(staff(VIEW, right), **ask).content.decode()
    assert "hidden-value" not in told
    assert "requires the permission to add bindings" in told
    BindingRecord().assign({**ANIMALS, "stream": "animals"}).save()
    assert (
        "requires the permission to change this binding"
        in post(staff(VIEW, "declbind.add_bindingrecord", name="adder"), **ask).content.decode()
    )
    assert post(staff(CHANGE, name="editor"), **ask).context["trial"] is not None


def test_an_edited_record_exposes_no_secret_that_its_author_may_not_expose():
    """The permission to view the model is not enough. A user who may expose secrets is the control."""
    row = AnimalFactory.create(secret_token="sesame")
    record = {**ANIMALS, "fields": ["secret_token"], "sensitive": ["secret_token"]}
    ask = {"action": "outbound", "pk": row.pk, "document": json.dumps(record)}
    rights = ("declbind.add_bindingrecord", CHANGE, READ, "zoo.add_animal", "zoo.change_animal", "zoo.delete_animal")
    assert "sesame" not in text_of(post(staff(*rights), **ask))
    assert "sesame" in text_of(post(staff(*rights, "declbind.expose_sensitive", name="trusted"), **ask))


@pytest.mark.parametrize("action", ["view", "outbound", "update"])
def test_names_of_groups_with_values_need_the_permission_to_view(action):
    """The same holds for params that find a row. Users who may view the model, and watchers, see them."""
    row = AnimalFactory.create(name="hidden-value", legs=4)
    ask = {"action": action, "pk": row.pk, "values": "" if action == "view" else "legs = 5"}

    def told(*codenames: str, name: str) -> str:
        client = staff(VIEW, *codenames, name=name)
        with override(SPYING):
            return text_of(client.post(TRY, {"stream": "animals", **ask}, follow=True))

    hidden = told(name="one")
    assert "hidden-value" not in hidden
    assert "REFUSED" not in hidden
    assert "hidden-value" in told(READ, name="two")
    assert "hidden-value" in told(WATCH, name="three")


def test_the_reason_for_an_invisible_row_needs_the_permission_to_view():
    """A row outside of a condition discloses something about its values."""
    row = AnimalFactory.create(status="lost")
    record = {**ANIMALS, "where": {"status": "open"}}
    for action in ("view", "update", "delete"):
        ask = {"stream": "animals", "action": action, "pk": row.pk, "values": "legs = 5"}
        with override(record):
            named = staff(VIEW, name=f"{action}1").post(TRY, ask, follow=True)
            missing = staff(VIEW, name=f"{action}2").post(TRY, {**ask, "pk": row.pk + 1000}, follow=True)
            reader = staff(VIEW, READ, name=f"{action}3").post(TRY, ask, follow=True)
        steps = [(step.name, step.verdict, step.text) for step in named.context["trial"].steps]
        assert steps == [(step.name, step.verdict, step.text) for step in missing.context["trial"].steps], action
        assert "outside &#x27;where&#x27;" in text_of(reader)

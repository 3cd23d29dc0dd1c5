"""The console against absurd addresses, forms and rows: every page answers, on every database."""

from __future__ import annotations

import csv
import io
import json
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client, override_settings
from django.utils import timezone

from admin_ui.traffic.stream import encode
from declbind.live.metrics import Metrics
from declbind.models import (
    Activity,
    BindingRecord,
    Block,
    Connection,
    Event,
    Node,
    SavedView,
    Traffic,
    Watch,
    editing,
)
from declbind.models.author import author_values
from declbind.registry import override
from tests.console_forms import LIST, staff
from tests.live_page import add_event, add_traffic
from tests.test_admin_connections import open_connection
from tests.zoo.clients import ANIMALS

pytestmark = pytest.mark.django_db

#: Every page, with the parameters of its address.
PAGES = {
    "": "q p o e state source app direction open silent stream id id__in enabled direction__exact stream__contains "
    "description__regex _facets",
    "live/": "cursor stream model row group user action outcome node q only",
    "live/rows/": "stream model row group user action outcome node q only whole bare extras",
    "live/export/": "cursor stream model row group user action outcome node q only format",
    "why/": "stream row user at offset connection",
    "try/": "who stream action pk values params revision document as_if_enabled carry_out",
    "connections/": "user stream group node state p",
    "processes/": "p",
    "doctor/": "p",
    "import/": "text",
    "export/": "q",
    "add/json/": "document",
}
ABSURD = {
    "nul": "a\0b",
    "huge": "1" + 30 * "0",
    "negative": "-1",
    "far": "9" * 5000,
    "superscript": "\N{SUPERSCRIPT TWO}",
    "long": 100_000 * "x",
    "words": 20_000 * "x y ",
    "replaced": "\ud800".encode("utf-8", "surrogatepass"),
    "early": "0001-01-01 00:00",
    "late": "9999-12-31 23:59",
    "quotes": "'\"`;--%_\\",
    "pattern": "(((",
    "json": '{"a": "\\ud800", "b": "\\u0000"}',
    "deep": 5_000 * "[",
}


@pytest.fixture
def operator(db):
    """Return the client of a superuser, whom no permission keeps from finding an error."""
    user = User.objects.create_superuser("operator")
    client = Client(raise_request_exception=False)
    client.force_login(user)
    return client


@pytest.mark.parametrize("absurd", ABSURD)
@pytest.mark.parametrize("page", PAGES)
def test_no_address_causes_an_error(operator, page, absurd):
    """No value in the address, in any of its keys, once or twice, causes an error."""
    BindingRecord().assign({"stream": "animals", "model": "zoo.Animal", "fields": ["legs"], "groups": ["all"]}).save()
    for key in PAGES[page].split():
        more = {
            "live/rows/": {"cursor": "e:0:0"},
            "why/": {"stream": "animals", "row": "1"},
            "try/": {"stream": "animals", "action": "view", "pk": "1"},
        }.get(page, {})
        # Twice, because an address may repeat a key; the last one counts.
        answer = operator.get(LIST + page, {**more, key: 2 * [ABSURD[absurd]]})
        assert answer.status_code in (200, 302, 400, 403, 404), (page, key, absurd, answer.exc_info)


FORMS = {
    "live/views/": "name query delete",
    "connections/": "unblock",
    "connections/c1/": "seconds reason",
    "try/": "who stream action pk values params revision document",
    "import/": "text source note plan version generation",
    "add/json/": "document note opened_with",
    "live/row/e1/": "hide",
}


@pytest.mark.parametrize("absurd", ABSURD)
@pytest.mark.parametrize("page", FORMS)
def test_no_form_causes_an_error(operator, page, absurd):
    """No submitted value causes an error."""
    open_connection("c1", User.objects.get())
    for key in FORMS[page].split():
        more = {
            "try/": {"stream": "animals", "action": "create", "who": "operator"},
            "connections/c1/": {"seconds": "600"},
            "import/": {"_apply": "1", "text": "[]"},
        }.get(page, {})
        answer = operator.post(LIST + page, {**more, key: ABSURD[absurd]})
        assert answer.status_code in (200, 302, 400, 403, 404), (page, key, absurd, answer.exc_info)


PATHS = (
    "connections/a%00b/", "live/row/e%00/", "live/row/e%C2%B2/", "defined/%00/", "defined/../../etc/passwd/",
    "%00/json/", "%C2%B2/json/", f"1{30 * '0'}/json/",
)  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_no_path_causes_an_error(operator, path):
    """The page is missing, or the list reports it."""
    assert operator.get(LIST + path).status_code in (302, 404)


LOOKS = (
    "", "?state=active", "live/", "live/rows/?cursor=e:0:0&extras=1", "live/export/", "live/export/?format=csv",
    "live/row/{event}/", "live/row/{traffic}/", "live/?q=a", "live/?node=n", "why/?stream=animals&row=7",
    "why/?stream=animals&row=7&user=ann", "connections/", "connections/c1/", "processes/", "doctor/",
    "try/?stream=animals&action=outbound-create&values=legs=7",
)  # fmt: skip


def look_everywhere(operator, event, traffic):
    """Return the content of every page."""
    texts = []
    for look in LOOKS:
        answer = operator.get(LIST + look.format(event=f"e{event.pk}", traffic=f"t{traffic.pk}"))
        assert answer.status_code == 200, (look, answer.exc_info)
        texts.append(answer.content.decode())
    return texts


BROKEN = (
    "{", "null", "[1]", "[[1]]", '{"a": 1}', "7", '["\\ud800"]', '[["\\ud800", "create"]]', '{"\\ud800": "\\udfff"}',
    '[["animals","g","x","y","z"]]',
)  # fmt: skip


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_row_breaks_no_page(operator, broken):
    """The row may come from another version of declbind, or from a manual edit."""
    now = timezone.now()
    event = add_event(stream="animals", model="zoo.animal", changes=broken, data=broken, object_pk="7")
    traffic = add_traffic(stream="animals", detail=broken, kind=Traffic.ERROR)
    open_connection("c1", User.objects.get())
    Connection.objects.create(id="c2", node="n", username="ann", opened_at=now, closed_at=now, subscriptions=broken)
    Connection.objects.update(subscriptions=broken)
    try:
        value = json.loads(broken)
    except ValueError:
        value = None
    if "ud800" not in broken or connection.vendor == "sqlite":
        for seconds in (1, 60):
            Activity.objects.create(node="n", at=now, seconds=seconds, streams=value or {}, deliveries=value or [])
        Node.objects.update(streams=value or {})
        Traffic.objects.update(groups=value or [])
    with override({**ANIMALS, "groups": ["legs-{legs}"]}):
        look_everywhere(operator, event, traffic)


EVIL = "=cmd|'<script>alert(1)</script>\"><img src=x onerror=alert(2)>\r\ndata: {}\r\n\r\n"


def test_users_input_is_never_markup(operator):
    """Names of users, groups and streams, client names, reasons, messages and values are escaped."""
    now = timezone.now()
    ann = User.objects.create(username=EVIL[:150], first_name=EVIL[:50])
    event = add_event(
        stream="animals", model="zoo.animal", changes=json.dumps([[EVIL, "create"]]), data=json.dumps({EVIL: EVIL}),
        object_pk=json.dumps(EVIL), actor=EVIL, origin=EVIL,
    )  # fmt: skip
    traffic = add_traffic(
        stream=EVIL[:64], action=EVIL[:20], object_pk=EVIL, groups=[EVIL], outcome=EVIL[:40], message=EVIL,
        detail=json.dumps({EVIL: EVIL}), username=EVIL, user_pk=EVIL[:64], kind=Traffic.REFUSED,
    )  # fmt: skip
    open_connection("c1", ann, [[EVIL, EVIL, None, 1, ""]], client=EVIL, address=EVIL[:60])
    Connection.objects.create(
        id="c2", node="n", username=EVIL, user_pk=EVIL[:64], opened_at=now, closed_at=now, close_code=4403,
        close_reason=EVIL[:110], subscriptions=json.dumps([["animals", EVIL, 4, 1, EVIL]]),
    )  # fmt: skip
    Node.objects.update(host=EVIL[:100], last_error=EVIL, streams={EVIL: 3})
    Block.objects.create(
        user_pk="7", username=EVIL[:150], until=now + timedelta(hours=1), reason=EVIL[:110], **author_values(ann)
    )
    SavedView.objects.create(owner_pk=str(User.objects.get(username="operator").pk), name=EVIL[:60], query="q=a")
    with override({**ANIMALS, "groups": ["legs-{legs}"], "description": EVIL}):
        record = BindingRecord().assign({**ANIMALS, "stream": "other", "groups": ["all"], "description": EVIL})
        with editing(author=ann, note=EVIL):
            record.save()
        texts = look_everywhere(operator, event, traffic)
        more = [
            operator.get(f"{LIST}connections/?state=closed"),
            operator.get(f"{LIST}try/", {"stream": EVIL, "who": EVIL, "action": "view", "pk": EVIL, "values": EVIL}),
            operator.post(f"{LIST}try/", {"stream": "animals", "action": "create", "values": json.dumps({EVIL: EVIL})}),
            operator.get(f"{LIST}why/", {"stream": EVIL, "row": EVIL, "user": EVIL, "at": EVIL}),
            operator.post(f"{LIST}import/", {"text": json.dumps([{**ANIMALS, "description": EVIL, EVIL: EVIL}]),
                                             "source": EVIL, "note": EVIL}),
            operator.get(f"{LIST}{record.pk}/json/"),
        ]  # fmt: skip
    for text in (*texts, *(answer.content.decode() for answer in more)):
        if text.startswith("<!DOCTYPE"):
            assert "<script>alert" not in text
            assert "<img src=x" not in text
    table = next(text for text in texts if text.startswith("time,process"))
    for line in csv.reader(io.StringIO(table)):
        assert not [cell for cell in line if cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))]


def test_an_event_for_a_page_is_one_line():
    """A client's input cannot start another event."""
    sent = encode("rows", {"rows": [{"html": EVIL}]}, "e:1:1").decode()
    assert [line.partition(":")[0] for line in sent.splitlines()] == ["id", "event", "data", ""]


@override_settings(USE_TZ=False)
def test_a_project_without_time_zones_has_all_pages(operator):
    """All times are naive, also those in the database."""
    event = add_event(stream="animals", model="zoo.animal", object_pk="7")
    traffic = add_traffic(stream="animals", kind=Traffic.ERROR)
    open_connection("c1", User.objects.get(), [["animals", "legs-2", None, 1, ""]])
    now = timezone.now()
    Activity.objects.create(node="n", at=now, seconds=1, streams={"animals": [1, 2, 3]}, deliveries=[[1, 2, 3.5]])
    metrics = Metrics("n")
    metrics.count(Traffic.REQUEST, "animals")
    metrics.write_minute(metrics.take_fresh(), "default")
    assert Activity.objects.filter(seconds=60).exists()
    BindingRecord().assign({**ANIMALS, "stream": "other", "groups": ["all"]}).save()
    with override({**ANIMALS, "groups": ["legs-{legs}"]}):
        look_everywhere(operator, event, traffic)
        answer = operator.get(f"{LIST}why/?stream=animals&row=7&at=14:01")
        assert answer.status_code == 200, answer.exc_info


# Permissions ----------------------------------------------------------------------------------------------------------

VIEW, WATCH, CONNECTIONS = "view_bindingrecord", "view_traffic", "view_connection"
CHANGE, ADD, DELETE = "change_bindingrecord", "add_bindingrecord", "delete_bindingrecord"
#: Each permission of the app that opens a page on its own.
OPENED_BY = {
    "": {VIEW, CHANGE},
    "live/": {WATCH},
    "live/rows/?cursor=e:0:0": {WATCH},
    "live/stream/?cursor=e:0:0": {WATCH},
    "live/export/": {WATCH},
    "live/row/e{event}/": {WATCH},
    "why/?stream=animals&row=7": {WATCH},
    "try/": {VIEW, CHANGE},
    "connections/": {CONNECTIONS},
    "connections/c1/": {CONNECTIONS},
    "processes/": {"view_node"},
    "doctor/": {WATCH, CHANGE},
    "import/": {CHANGE},
    "export/": {VIEW, CHANGE},
    "add/json/": {ADD},
    "{record}/json/": {VIEW, CHANGE},
}
SENT = {
    "live/stop/": ({}, {WATCH}),
    "live/views/": ({"name": "mine"}, {WATCH}),
    "live/row/e{event}/": ({}, {WATCH}),
    "try/": ({"action": "delete", "stream": "animals", "pk": "1"}, {VIEW, CHANGE}),
    "connections/": ({"unblock": "7"}, set()),
    "connections/c1/": ({"seconds": "0"}, set()),
    "import/": ({"text": "[]", "_apply": "1"}, {CHANGE}),
    "add/json/": ({"document": "{}"}, {ADD}),
    "{record}/json/": ({"document": "{}"}, {CHANGE}),
}


@pytest.fixture
def places():
    """Return the values for the placeholders of addresses."""
    event = add_event(stream="animals", model="zoo.animal", object_pk="7")
    open_connection("c1")
    record = BindingRecord().assign({**ANIMALS, "stream": "other", "groups": ["all"]})
    record.save()
    return {"event": event.pk, "record": record.pk}


def test_each_page_is_opened_by_its_own_permissions_only(places):
    """No other permission, of this app or another, opens the page."""
    others = {DELETE, "disconnect", "expose_sensitive", "view_bindingrevision", "view_event", "view_watch", ""}
    for codename in others.union(*OPENED_BY.values()):
        client = staff(f"declbind.{codename}", "zoo.view_animal", "auth.change_user", name=codename or "nobody")
        for page, openers in OPENED_BY.items():
            status = client.get(LIST + page.format(**places)).status_code
            opened = status == 200 or (status == 406 and "stream" in page)
            assert opened == (codename in openers), (page, codename, status)
        for page, (data, openers) in SENT.items():
            status = client.post(LIST + page.format(**places), data).status_code
            assert (status != 403) == (codename in openers), (page, codename, status)


@pytest.mark.parametrize("state", [{"is_staff": False}, {"is_active": False}, None])
def test_inactive_nonstaff_and_anonymous_users_get_nothing(places, state):
    """They are redirected to the login page, or refused."""
    client = Client()
    if state is not None:
        client.force_login(User.objects.create_superuser("late"))
        User.objects.update(**state)
    before = LogEntry.objects.count(), Event.objects.count()
    for page in OPENED_BY:
        assert client.get(LIST + page.format(**places)).status_code in (302, 403), page
    for page, (data, _) in SENT.items():
        assert client.post(LIST + page.format(**places), data).status_code in (302, 403), page
    assert (LogEntry.objects.count(), Event.objects.count()) == before
    assert not Watch.objects.exists()


def test_forms_of_other_sites_are_refused(places):
    """Every address that changes something requires the CSRF token."""
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.create_superuser("operator"))
    for page, (data, _) in SENT.items():
        assert client.post(LIST + page.format(**places), data).status_code == 403, page
        assert client.post(LIST + page.format(**places), data, HTTP_ORIGIN="https://evil.example").status_code == 403

"""No page of the console shows values of a row that the admin page of its model hides from the viewer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib import admin
from django.db import connection
from django.http import HttpRequest
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext

from admin_ui.common import visible
from admin_ui.common.visible import VisibleRows
from declbind.models import Event
from declbind.registry import override
from example_site.blog.models import Blog, Post
from tests.console_forms import LIST, read_form, save, staff

pytestmark = pytest.mark.django_db

SHOWN, HIDDEN = "a-name-to-show", "a-name-to-hide"
RECORD = {
    "stream": "posts",
    "model": "blog.Post",
    "fields": ["title", "body"],
    "permissions": {"view": True, "create": True, "update": True, "delete": True},
}
RIGHTS = ("declbind.view_bindingrecord", "declbind.change_bindingrecord", "declbind.view_traffic", "blog.view_post")
TRY, LIVE, WHY = f"{LIST}try/", f"{LIST}live/", f"{LIST}why/"


class HidingQueries(admin.ModelAdmin):
    """An admin page that hides rows by ``get_queryset``."""

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).exclude(title=HIDDEN)


class HidingObjects(admin.ModelAdmin):
    """An admin page that hides rows by ``has_view_permission``."""

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_view_permission(request, obj) and (obj is None or obj.title != HIDDEN)


class Failing(admin.ModelAdmin):
    """An admin page that fails for every row."""

    def get_queryset(self, request: HttpRequest) -> Any:
        raise LookupError(HIDDEN)


def add(title: str) -> Post:
    blog, _ = Blog.objects.get_or_create(title="Cats", slug="cats")
    return Post.objects.create(blog=blog, title=title, body="-")


class Rows:
    """Two written rows, of which the viewer may see one, and their events."""

    def __init__(self) -> None:
        self.shown, self.hidden = add(SHOWN), add(HIDDEN)
        self.events = {event.object_pk: event for event in Event.objects.filter(stream="posts")}
        self.viewer = staff(*RIGHTS, name="viewer")

    def page_of(self, row: Any) -> str:
        return f"{LIVE}row/e{self.events[str(row.pk)].pk}/"


@pytest.fixture
def rows() -> Iterator[Rows]:
    """Yield the rows, under the one binding that is in force."""
    with override(RECORD):
        yield Rows()


@pytest.fixture
def register() -> Iterator[object]:
    """Yield a function that replaces the admin page of posts for the test."""
    own = admin.site._registry[Post]
    # Not with register(), which would need other addresses.
    yield lambda page: admin.site._registry.update({Post: page(Post, admin.site)})
    admin.site._registry[Post] = own


def look_everywhere(rows: Rows) -> dict[str, str]:
    """Return what each place of the console shows of both rows."""
    client: Client = rows.viewer
    found: dict[str, str] = {}

    def text(name: str, response: Any) -> None:
        assert response.status_code == 200, (name, response)
        content = b"".join(response.streaming_content) if response.streaming else response.content
        found[name] = found.get(name, "") + content.decode()

    client.post(rows.page_of(rows.shown))
    for row in (rows.shown, rows.hidden):
        key = str(row.pk)
        text("row page", client.get(rows.page_of(row)))
        text("try update", client.get(TRY, {"stream": "posts", "action": "outbound", "pk": key}))
        text("why", client.get(WHY, {"stream": "posts", "row": key}))
    text("try rows", client.get(TRY, {"stream": "posts", "action": "view"}))
    text("export", client.get(f"{LIVE}export/"))
    text("live", client.get(LIVE))
    record = save({**RECORD, "stream": "others", "enabled": False})
    data = read_form(client.get(f"{LIST}{record.pk}/change/").content.decode())
    for row in (rows.shown, rows.hidden):
        for asked in ({"look_pk": str(row.pk)}, {"look_q": str(row.pk)}, {"look_q": row.title}):
            answer = client.post(f"{LIST}panel/", {**data, **asked, "object_id": record.pk})
            found["panel"] = found.get("panel", "") + answer.json()["html"].replace(f'value="{row.title}"', "")
    return found


#: The places that show values.
PLACES = {"row page", "try update", "try rows", "export", "panel"}


def telling(found: dict[str, str], text: str) -> set[str]:
    return {name for name, shown in found.items() if text in shown}


def test_every_place_shows_both_rows_if_the_admin_page_does(rows: Rows) -> None:
    """Control: the places that the other tests check do show values."""
    found = look_everywhere(rows)
    assert telling(found, SHOWN) == PLACES
    assert telling(found, HIDDEN) == PLACES


@pytest.mark.parametrize("page", [HidingQueries, HidingObjects])
def test_no_place_shows_values_of_a_row_that_its_admin_page_hides(
    rows: Rows, register: Callable[..., object], page: Any
) -> None:
    """The page hides it in its list or one by one; the other row is shown."""
    register(page)
    found = look_everywhere(rows)
    assert telling(found, HIDDEN) == set()
    assert telling(found, SHOWN) == PLACES


@pytest.mark.parametrize("page", [HidingQueries, HidingObjects])
def test_a_console_that_checks_the_permission_alone_is_detected(
    rows: Rows, register: Callable[..., object], page: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control: without the admin page's answer, the test above finds the hidden values."""
    register(page)
    monkeypatch.setattr(VisibleRows, "limits", lambda self, label: False)
    assert telling(look_everywhere(rows), HIDDEN) >= {"row page", "try update", "try rows", "export"}


def test_an_admin_page_that_fails_hides_all_rows(rows: Rows, register: Callable[..., object]) -> None:
    """The pages report it without the exception, which may quote a row."""
    register(Failing)
    found = look_everywhere(rows)
    assert telling(found, HIDDEN) == telling(found, SHOWN) == set()
    assert telling(found, "LookupError") == {"row page", "try update", "try rows", "why", "panel"}


def test_a_search_does_not_find_a_hidden_row_by_its_values(rows: Rows, register: Callable[..., object]) -> None:
    """Finding it would disclose them."""
    assert len(rows.viewer.get(LIVE, {"q": HIDDEN}).context["rows"]) == 1
    register(HidingQueries)
    assert len(rows.viewer.get(LIVE, {"q": HIDDEN}).context["rows"]) == 0


def test_a_deleted_row_is_hidden_where_the_page_limits_rows(rows: Rows, register: Callable[..., object]) -> None:
    """Whether it would have been shown is unknown."""
    register(HidingQueries)
    rows.shown.delete()
    gone = Event.objects.filter(kind=Event.GONE).get()
    rows.viewer.post(rows.page_of(rows.hidden))
    assert SHOWN not in rows.viewer.get(f"{LIVE}row/e{gone.pk}/").content.decode()


def test_a_page_of_rows_costs_one_query(rows: Rows, register: Callable[..., object]) -> None:
    """The number of rows on the page does not matter."""
    register(HidingQueries)
    posts = [add(f"post {number}") for number in range(20)]
    request = RequestFactory().get("/")
    request.user = rows.viewer.get(LIVE).context["user"]
    seen = VisibleRows(admin.site, request)
    with CaptureQueriesContext(
        connection,
    ) as queries:
        seen.load(("blog.post", post.pk) for post in (*posts, rows.hidden))
        assert [seen.sees("blog.post", post.pk) for post in posts] == [True] * 20
        assert not seen.sees("blog.post", rows.hidden.pk)
    assert len([query for query in queries if query["sql"].startswith("SELECT")]) == 1


def test_an_admin_page_without_own_code_costs_no_query(rows: Rows, register: Callable[..., object]) -> None:
    """Django's own page shows all rows to users who may view the model."""
    register(admin.ModelAdmin)
    seen = VisibleRows(admin.site, RequestFactory().get("/"))
    with CaptureQueriesContext(connection) as queries:
        assert seen.sees("blog.post", rows.hidden.pk)
        assert seen.sees("no.such", 1)
    assert len(queries) == 0


def test_a_proxy_is_limited_by_the_page_of_its_model(register: Callable[..., object]) -> None:
    """Its rows are the same."""
    register(HidingQueries)

    class Meta:
        proxy = True
        app_label = "blog"

    from django.apps import apps

    proxy = type("VisibleProxy", (Post,), {"__module__": __name__, "Meta": Meta})
    try:
        assert visible.find_admin(admin.site, proxy) is admin.site._registry[Post]
    finally:
        del apps.all_models["blog"]["visibleproxy"]
        apps.clear_cache()


def test_keys_of_the_log_are_read_as_json() -> None:
    """An event without a row has no key."""
    assert [visible.parse_key(text) for text in ("5", '"a"', "null", "", "{")] == [5, "a", None, None, None]

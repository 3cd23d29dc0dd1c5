"""The list of bindings: every source on one screen, the problems of invalid bindings, a constant number of queries."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.test import override_settings
from django.urls import include, path
from django.utils import timezone

from admin_ui.records import BindingRecordAdmin
from declbind import registry
from declbind.core.spec import KEYS
from declbind.models import BindingRecord, BindingRevision, Configuration, Node
from tests.console_forms import LIST, POST, errors, read_form, save, spoil, staff, tick

pytestmark = pytest.mark.django_db


def get(client, query=""):
    return client.get(LIST + query).content.decode()


def act(client, action, *records):
    data = {"action": action, "_selected_action": [record.pk for record in records]}
    response = client.post(LIST, data, follow=True)
    ticked = {} if action == "export" else tick(response.content.decode())
    return client.post(LIST, data | ticked, follow=True) if ticked else response


def add_node(name, version=None, *, age=0):
    configuration = Configuration.objects.get(pk=1)
    now = timezone.now()
    Node.objects.create(
        id=name,
        host="web",
        pid=1,
        generation=configuration.generation,
        version=configuration.version if version is None else version,
        started_at=now,
        seen_at=now - timedelta(seconds=age),
    )


def test_every_source_is_listed(admin_client):
    """Rows, files and classes are listed, each with its sent fields and permissions."""
    save(POST)
    page = get(admin_client)
    for text in ("posts", "blog-posts", "intval", "code decides", "blog/bindings/posts.json[0]", "2 fields"):
        assert text in page
    assert '<b>view</b> <span class="declbind-open">everyone</span>' in page
    assert "users with the permission blog.add_post" in page
    assert "users with the permission blog.change_post" in page


def test_all_fields_is_highlighted(admin_client):
    """The choice "all fields" is marked, since it includes future fields."""
    save({"stream": "all", "model": "blog.Post", "fields": "__all__"})
    assert '<span class="declbind-chip declbind-open">all fields (7)</span>' in get(admin_client, "?source=database")


def test_an_invalid_row_shows_its_problem(admin_client):
    """The headline counts the row once the registry has loaded it."""
    record = save(POST)
    spoil(record, fields=["titel"])
    page = get(admin_client)
    assert "Field &#x27;titel&#x27; does not exist on blog.Post. Did you mean &#x27;title&#x27;?" in page


def test_the_headline_shows_the_spread_of_the_configuration(admin_client):
    """Processes without a recent heartbeat do not count."""
    save(POST)
    version = Configuration.objects.get(pk=1).version
    add_node("a")
    add_node("b", version - 1)
    add_node("dead", age=3600)
    page = get(admin_client)
    assert f'<b>{version}</b></a>, on <span class="declbind-behind">1 of 2 processes</span>' in page


def test_the_headline_counts_invalid_bindings(admin_client, tmp_path):
    """A bad file is counted and listed, with its problem and without a copy."""
    (tmp_path / "bad.json").write_text('{"stream": "bad", "model": "blog.Post", "fields": ["nope"]}')
    (tmp_path / "worse.json").write_text("{")
    with override_settings(DECLBIND={"RECORD_DIRS": [str(tmp_path)]}):
        page = get(admin_client)
        assert "2 bindings invalid" in page
        assert "Field &#x27;nope&#x27; does not exist" in page
        assert "(not readable)" in page
        for name in ("bad", "worse"):
            shown = admin_client.get(f"{LIST}defined/{tmp_path}/{name}.json/")
            assert shown.status_code == 200
            assert "Invalid, and therefore not in force" in shown.content.decode()
        assert "&quot;fields&quot;: [" in admin_client.get(f"{LIST}defined/{tmp_path}/bad.json/").content.decode()


@pytest.mark.parametrize(
    ("query", "found", "missing"),
    [
        ("?state=disabled", ["off"], ["posts", "blog-desk"]),
        ("?state=active", ["posts", "blog-desk"], ["off"]),
        ("?app=blog", ["posts", "blog-desk"], ["off", "intval"]),
        ("?direction=outbound", ["off"], ["posts", "blog-desk"]),
        ("?source=file", ["blog-desk"], ["posts", "off", "intval"]),
        ("?source=database", ["posts", "off"], ["blog-desk", "intval"]),
        ("?open=yes", ["posts", "blog-posts"], ["off", "blog-desk"]),
        ("?q=desk", ["blog-desk"], ["posts", "off", "intval"]),
    ],
)
def test_filters_and_search_apply_to_every_source(admin_client, query, found, missing):
    """The filters and the search apply to all sources, and the count is that of all that is shown."""
    save(POST)
    save({"stream": "off", "model": "ticker.Price", "fields": ["price"], "enabled": False, "direction": "outbound"})
    response = admin_client.get(LIST + query)
    shown = {record.stream for record in response.context["cl"].result_list}
    assert response.context["cl"].result_count == len(shown)
    assert set(found) <= shown
    assert not set(missing) & shown


def test_invalid_rows_can_be_filtered(admin_client):
    """The filter shows the rows that the registry leaves out."""
    record = save({**POST, "stream": "fine"})
    spoil(save(POST), fields=["nope"])
    # An edit of any record makes the registry validate all of them.
    record.save()
    response = admin_client.get(f"{LIST}?state=invalid")
    assert [row.stream for row in response.context["cl"].result_list] == ["posts"]


# Actions --------------------------------------------------------------------------------------------------------------


def test_enable_and_disable_record_author_and_log(admin_client, admin_user):
    """Each action makes a revision in the user's name."""
    record = save(POST)
    assert "1 binding disabled." in act(admin_client, "disable", record).content.decode()
    assert "1 binding enabled." in act(admin_client, "enable", record).content.decode()
    record.refresh_from_db()
    assert record.enabled
    assert [revision.author for revision in BindingRevision.objects.all()[:2]] == [admin_user, admin_user]
    assert LogEntry.objects.count() == 2


def test_an_invalid_record_can_be_disabled_and_not_enabled(admin_client):
    """A valid binding in the same selection is enabled or disabled all the same."""
    bad, good = save(POST), save({**POST, "stream": "good"})
    spoil(bad, fields=["nope"])
    act(admin_client, "disable", bad, good)
    assert set(BindingRecord.objects.values_list("enabled", flat=True)) == {False}
    page = act(admin_client, "enable", bad, good).content.decode()
    assert "Field &#x27;nope&#x27; does not exist" in page
    assert dict(BindingRecord.objects.values_list("stream", "enabled")) == {"posts": False, "good": True}


def test_an_export_is_sorted_stable_and_complete(admin_client):
    """The export has the same bytes each time, and can be imported again."""
    two, one = save({**POST, "stream": "two"}), save({**POST, "stream": "one"})
    first, second = (act(admin_client, "export", two, one) for _ in range(2))
    assert first.content == second.content
    assert "attachment" in first["Content-Disposition"]
    assert json.loads(first.content) == [one.definition(), two.definition()]
    assert list(json.loads(first.content)[0]) == [key for key in KEYS if key in one.definition()]


def test_check_reports_problems_and_warnings(admin_client):
    """The records are validated again, whatever the list showed."""
    bad, odd = save(POST), save({**POST, "stream": "odd", "groups": ["author-{author_id}"]})
    spoil(bad, fields=["nope"])
    page = act(admin_client, "check_again", bad, odd).content.decode()
    assert "Binding &#x27;posts&#x27;: What is sent, line 1: Field" in page
    assert "Binding &#x27;odd&#x27;: Groups, line 1: " in page
    assert "No problems: odd." in page


def test_viewers_may_export_and_check_but_not_switch():
    """The actions follow the permissions."""
    record = save(POST)
    client = staff("declbind.view_bindingrecord")
    page = get(client)
    assert 'value="export"' in page
    assert 'value="disable"' not in page
    assert "add/json" not in page
    act(client, "disable", record)
    record.refresh_from_db()
    assert record.enabled


# Bindings of files and classes ----------------------------------------------------------------------------------------


def test_a_file_binding_is_shown_and_copied(admin_client):
    """The copy has a new name, is disabled, and explains how to replace the original."""
    where = "blog/bindings/posts.json[0]"
    page = admin_client.get(f"{LIST}defined/{where}/").content.decode()
    assert "&quot;stream&quot;: &quot;blog-posts&quot;" in page
    assert "?copy=blog%2Fbindings%2Fposts.json%5B0%5D" in page
    url = f"{LIST}add/?copy={where}"
    form = admin_client.get(url).content.decode()
    assert "To replace the original" in form
    data = read_form(form)
    assert data["stream"] == "blog-posts-copy"
    assert "enabled" not in data
    response = admin_client.post(url, data)
    assert response.status_code == 302, errors(response)
    original = registry.get_registry().by_stream["blog-posts"].spec().to_dict()
    assert BindingRecord.objects.get().definition() == {**original, "stream": "blog-posts-copy", "enabled": False}
    assert read_form(admin_client.get(url).content.decode())["stream"] == "blog-posts-copy-2"


def test_a_class_is_shown_read_only(admin_client):
    """The page shows what the code decides."""
    page = admin_client.get(f"{LIST}defined/example_site.example.bindings.IntegerValueBinding/").content.decode()
    assert "code decides" in page
    assert "IntegerValue" in page


def test_viewers_are_offered_no_copy():
    """A copy needs the permission to add."""
    client = staff("declbind.view_bindingrecord")
    page = client.get(f"{LIST}defined/blog/bindings/posts.json[0]/")
    assert page.status_code == 200
    assert "Copy to database" not in page.content.decode()


# Other pages ----------------------------------------------------------------------------------------------------------


def test_revisions_and_processes_are_read_only(admin_client):
    """Only declbind itself writes these rows."""
    save(POST)
    add_node("a")
    revision = BindingRevision.objects.get()
    assert "posts" in admin_client.get("/admin/declbind/bindingrevision/").content.decode()
    page = admin_client.get(f"/admin/declbind/bindingrevision/{revision.pk}/change/").content.decode()
    assert "&quot;blog.Post&quot;" in page
    assert "web:1" in admin_client.get("/admin/declbind/node/").content.decode()
    assert admin_client.get("/admin/declbind/node/a/change/").status_code == 200
    for model in ("bindingrevision", "node"):
        assert admin_client.get(f"/admin/declbind/{model}/add/").status_code == 403


class OtherSite(admin.AdminSite):
    site_header = "Another site"


other = OtherSite(name="backstage")
other.register(BindingRecord, BindingRecordAdmin)
urlpatterns = [path("backstage/", other.urls), path("", include("example_site.urls"))]


@override_settings(ROOT_URLCONF="tests.test_admin_list")
def test_the_pages_work_under_another_admin_site(admin_client):
    """Links stay on the page's own admin site."""
    record = save(POST)
    base = "/backstage/declbind/bindingrecord/"
    for page in ("", "add/", "add/json/", f"{record.pk}/change/", f"{record.pk}/json/", "live/",
                 "defined/blog/bindings/posts.json[0]/"):  # fmt: skip
        response = admin_client.get(base + page)
        assert response.status_code == 200
        assert '"/admin/' not in response.content.decode()
    data = {"document": json.dumps(POST | {"enabled": False}), "_continue": "1"}
    data["opened_with"] = read_form(admin_client.get(f"{base}{record.pk}/json/").content.decode(), "")["opened_with"]
    assert admin_client.post(f"{base}{record.pk}/json/", data).url == f"{base}{record.pk}/json/"


def test_no_page_has_inline_scripts_or_styles(admin_client):
    """All pages work under a strict Content-Security-Policy."""
    record = save(POST)
    for page in ("", "add/", "add/json/", f"{record.pk}/change/", f"{record.pk}/json/", "live/",
                 "defined/blog/bindings/posts.json[0]/"):  # fmt: skip
        html = admin_client.get(LIST + page).content.decode()
        assert "<style" not in html
        assert " style=" not in html
        assert " onclick=" not in html
        scripts = [part.split(">", 1)[0] for part in html.split("<script")[1:]]
        assert all("src=" in script or "application/json" in script for script in scripts), page


def test_an_empty_list_suggests_how_to_begin(admin_client):
    """It suggests the form, an unbound model, an import, and a copy of a binding from elsewhere."""
    page = get(admin_client)
    assert "No binding in the database yet." in page
    assert "No binding in the database yet" not in get(admin_client, "?q=x")
    for address in ("add/", "add/?model=ticker.Price", "import/", "add/json/"):
        assert f'{address}"' in page
    assert "?model=auth.User" not in page
    assert 'value="ticker.Price" selected' in get(admin_client, "add/?model=ticker.Price")

"""The admin pages in a browser: the form with and without scripts."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.test import Client

from declbind.models import BindingRecord
from example_site.blog.models import Blog, Post
from tests.browser.console import PICTURES, overflow, take_picture, unfold
from tests.console_forms import LIST, POST, save, spoil


def take_pictures(page, name):
    """Take pictures of a page in light and dark, wide and narrow."""
    if not PICTURES:
        return
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        for width in (1280, 400):
            page.set_viewport_size({"width": width, "height": 800})
            take_picture(page, f"{name}-{scheme}-{width}", full_page=True)
    page.emulate_media(color_scheme="light")
    page.set_viewport_size({"width": 1280, "height": 800})


@pytest.fixture
def site(django_server):
    """Serve the site with its static files."""
    return django_server(env={"DEBUG": "1"})


@pytest.fixture
def operator(site, page):
    """Log a superuser in and return the page."""
    user = User.objects.create_superuser("operator", password="x")
    client = Client()
    client.force_login(user)
    page.context.add_cookies([{"name": "sessionid", "value": client.cookies["sessionid"].value, "url": site.url}])
    return page


def test_an_operator_binds_a_model_by_the_form(operator, site, expect):
    """Choosing a model shows its fields, two lists select some, and opening something needs a confirmation."""
    page = operator
    page.goto(f"{site.url}{LIST}add/")
    page.fill("#id_stream", "posts")
    page.select_option("#id_model", "blog.Post")
    unsent = page.get_by_role("listbox", name="Not sent")
    unsent.get_by_role("option", name="title").dblclick()
    unsent.get_by_role("option", name="body").click()
    page.locator(".field-fields").get_by_role("button", name="Move to: Sent").click()
    expect(page.locator("#id_fields_names")).to_have_value("title\nbody")
    unfold(page, "Groups", "Changes by clients")
    page.fill("#id_groups", "blog-")
    page.locator("#id_groups").press("End")
    page.locator("#declbind-fieldnotes button", has_text="blog").click()
    expect(page.locator("#id_groups")).to_have_value("blog-{blog_id}")
    page.select_option("#id_permissions_view", "everyone")
    page.select_option("#id_permissions_create", "holders")
    page.fill("#id_permissions_create_codename", "blog.add_post")
    expect(page.locator("#declbind-change")).to_contain_text("anyone may subscribe")
    take_pictures(page, "add")
    assert overflow(page) <= 0
    page.locator("input[name=_save]").click()
    expect(page.locator(".errorlist")).to_contain_text("Nothing is saved yet")
    take_pictures(page, "add-widening")
    page.get_by_label("I confirm that it gives more access than before").check()
    page.locator("input[name=_save]").click()
    expect(page.locator(".success")).to_contain_text("added successfully")
    expect(page.locator("#result_list")).to_contain_text("posts")
    assert BindingRecord.objects.get().definition() == {
        "stream": "posts", "model": "blog.Post", "fields": ["title", "body"], "groups": ["blog-{blog_id}"],
        "permissions": {"view": True, "create": "blog.add_post"},
    }  # fmt: skip


def test_a_long_list_does_not_scroll_when_clicked(operator, site, expect):
    """The clicked option is the chosen one, also at the end of a list that must be scrolled."""
    page = operator
    page.goto(f"{site.url}{LIST}add/?model=zoo.Sample")
    option = page.get_by_role("listbox", name="Not sent").get_by_role("option", name="required_null")
    option.dblclick()
    expect(page.locator("#id_fields_names")).to_have_value("required_null")


def test_the_two_lists_work_with_the_keyboard_alone(operator, site, expect):
    """Arrows choose, Enter and Space move, typing filters, unknown names stay, and the order is kept."""
    page = operator
    record = save(POST)
    spoil(record, fields=["gone", "title"])
    page.goto(f"{site.url}{LIST}{record.pk}/change/")
    names = page.locator("#id_fields_names")
    unsent = page.get_by_role("listbox", name="Not sent")
    sent = page.get_by_role("listbox", name="Sent", exact=True)
    expect(sent.get_by_role("option").first).to_contain_text("not in the model")
    expect(unsent.get_by_role("option", name="author")).to_contain_text("may be null")
    expect(unsent.get_by_role("option", name="blog ")).to_contain_text("blog.Blog")
    unsent.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(names).to_have_value("gone\ntitle\nbody")
    expect(page.locator(".field-fields [role=status]")).to_have_text("body: Sent. 3 in Sent.")
    page.keyboard.type("auth")
    expect(unsent.get_by_role("option")).to_have_count(1)
    page.keyboard.press("ArrowDown")
    page.keyboard.press(" ")
    expect(names).to_have_value("gone\ntitle\nbody\nauthor")
    sent.focus()
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    expect(names).to_have_value("title\nbody\nauthor")
    page.keyboard.press("End")
    page.keyboard.press("Alt+ArrowUp")
    expect(names).to_have_value("title\nauthor\nbody")
    # The writable fields follow the sent ones, but were not chosen yet.
    unfold(page, "Changes by clients")
    page.get_by_label("Only these:").check()
    accepted = page.get_by_role("listbox", name="Not accepted")
    expect(accepted.get_by_role("option")).to_have_count(2)
    # With "all but", the same two lists select the fields to leave out.
    page.get_by_label("All fields but these:").check()
    expect(page.get_by_role("listbox", name="Left out").get_by_role("option")).to_have_count(3)
    page.select_option("#id_model", "blog.Blog")
    expect(page.locator("#id_fields_names_left").get_by_role("option", name="slug")).to_be_visible()


def test_the_panel_follows_what_is_typed(operator, site, expect):
    """The frame, the words and the problems change with the form, and Enter in the search stores nothing."""
    page = operator
    blog = Blog.objects.create(title="Cats", slug="cats")
    for title in ("Purr", "Hiss"):
        Post.objects.create(blog=blog, title=title, body=f"About {title}")
    record = save({**POST, "fields": ["title"]})
    page.goto(f"{site.url}{LIST}{record.pk}/change/")
    panel = page.locator("#declbind-panel")
    expect(panel.locator(".declbind-frame")).to_contain_text('"title": "Hiss"')
    page.fill("#id_look_q", "purr")
    page.press("#id_look_q", "Enter")
    expect(panel.locator(".declbind-frame")).to_contain_text('"title": "Purr"')
    page.get_by_role("listbox", name="Not sent").get_by_role("option", name="body").dblclick()
    expect(panel.locator(".declbind-frame")).to_contain_text("About Purr")
    expect(panel.locator(".declbind-widens").first).to_contain_text("also sends body")
    expect(panel.locator("[data-panel-status]")).to_have_text("This change gives more access than before.")
    unfold(page, "Groups", "Description and note")
    page.fill("#id_groups", "blog-{blok}")
    problem = panel.get_by_role("link", name="Groups")
    expect(problem).to_be_visible()
    take_pictures(page, "panel-problem")
    problem.click()
    expect(page.locator("#id_groups")).to_be_focused()
    page.fill("#id_groups", "blog-{blog_id}")
    expect(problem).to_have_count(0)
    panel.get_by_label("It gives more access than before").check()
    take_pictures(page, "panel")
    page.set_viewport_size({"width": 400, "height": 800})
    assert overflow(page) <= 0
    page.set_viewport_size({"width": 1280, "height": 800})
    page.locator("#id_description").fill("x")
    expect(panel).to_contain_text("has another description")
    expect(panel.get_by_label("It gives more access than before")).to_be_checked()
    page.locator("#id_stream").press("Enter")
    expect(page.locator(".success")).to_contain_text("changed successfully")
    assert BindingRecord.objects.get().fields == ["title", "body"]


def test_list_form_and_json_fit_a_phone(operator, site, expect):
    """At 400 pixels only tables scroll sideways."""
    page = operator
    record = save({**POST, "description": "Posts of a blog, live for its readers."})
    record.writable = ["title"]
    record.description = "Posts, live."
    record.save()
    save({"stream": "prices", "model": "ticker.Price", "fields": "__all__", "direction": "outbound", "enabled": False})
    bad = save({**POST, "stream": "bad"})
    spoil(bad, fields=["titel"])
    save({**POST, "stream": "other"})
    pages = {"list": "", "form": f"{record.pk}/change/", "bad": f"{bad.pk}/change/", "json": f"{record.pk}/json/",
             "file": "defined/blog/bindings/posts.json[0]/"}  # fmt: skip
    for name, address in pages.items():
        page.goto(f"{site.url}{LIST}{address}")
        if name == "json":
            page.fill("#id_document", '{\n  "stream": "posts",\n  "model": "blog.Post",\n  "fields": ["titel"]\n}')
            page.locator("input[name=_save]").click()
            expect(page.get_by_role("link", name="line 4, column 14")).to_be_visible()
        take_pictures(page, name)
        page.set_viewport_size({"width": 400, "height": 800})
        assert overflow(page) <= 0, name
        page.set_viewport_size({"width": 1280, "height": 800})


def test_the_form_works_without_scripts(site, browser, expect):
    """The form works without its scripts."""
    user = User.objects.create_superuser("operator", password="x")
    client = Client()
    client.force_login(user)
    context = browser.new_context(java_script_enabled=False)
    context.add_cookies([{"name": "sessionid", "value": client.cookies["sessionid"].value, "url": site.url}])
    page = context.new_page()
    page.goto(f"{site.url}{LIST}add/")
    page.fill("#id_stream", "posts")
    page.select_option("#id_model", "blog.Post")
    page.fill("#id_fields_names", "title\nbdoy")
    page.locator("input[name=_save]").click()
    expect(page.locator(".field-fields .errorlist")).to_contain_text("Did you mean 'body'?")
    expect(page.locator("#declbind-fieldnotes")).to_contain_text("published")
    page.fill("#id_fields_names", "title\nbody")
    page.locator("input[name=_save]").click()
    expect(page.locator("#result_list")).to_contain_text("posts")
    page.goto(f"{site.url}{LIST}live/")
    expect(page.get_by_role("link", name="Refresh")).to_be_visible()
    context.close()


def test_nothing_is_objected_to_before_a_mistake_was_made(operator, site, expect):
    """A new form says what is missing and shows problems only in inputs that a person has left."""
    page = operator
    page.goto(f"{site.url}{LIST}add/")
    panel = page.locator("#declbind-panel")
    page.select_option("#id_model", "blog.Post")
    expect(page.locator("#id_stream")).to_have_value("posts")
    expect(panel).to_contain_text("Still to fill in: What is sent.")
    expect(panel.locator(".declbind-part-bad")).to_have_count(0)
    expect(page.locator(".declbind-note, .errornote")).to_have_count(0)
    unfold(page, "Groups")
    page.locator("#id_groups").press_sequentially("blog-{blog_id")
    expect(page.locator('[data-section="Groups"] [data-value]')).to_have_text("blog-{blog_id")
    expect(panel.locator(".declbind-part-bad")).to_have_count(0)
    page.locator("#id_groups").blur()
    expect(panel.locator(".declbind-part-bad")).to_contain_text("A brace has no partner")


def test_a_name_that_was_typed_is_not_replaced_by_a_proposal(operator, site, expect):
    """The proposal follows the model only as long as nobody changes it."""
    page = operator
    page.goto(f"{site.url}{LIST}add/")
    page.select_option("#id_model", "blog.Post")
    expect(page.locator("#id_stream")).to_have_value("posts")
    page.select_option("#id_model", "blog.Blog")
    expect(page.locator("#id_stream")).to_have_value("blogs")
    page.fill("#id_stream", "news")
    page.select_option("#id_model", "blog.Post")
    expect(page.locator("#declbind-fieldnotes [data-name=body]")).to_have_count(1)
    expect(page.locator("#id_stream")).to_have_value("news")


def test_conditions_groups_and_own_rows_are_built_by_choosing(operator, site, expect):
    """A field, a comparison and a value become JSON, with numbers and truth values of their own types."""
    page = operator
    page.goto(f"{site.url}{LIST}add/?model=blog.Post")
    unfold(page, "Groups", "Rows")
    rows = page.locator(".field-where")
    rows.get_by_role("button", name="Add a condition").click()
    rows.get_by_label("Field").select_option("published")
    expect(rows.get_by_label("Value")).to_have_value("true")
    rows.get_by_role("button", name="Add a condition").click()
    second = rows.locator(".declbind-conditions li").nth(1)
    second.get_by_label("Field").select_option("blog")
    second.get_by_label("Comparison").select_option("in")
    second.get_by_label("Value").fill("1, 2")
    expect(page.locator("#id_where")).to_have_value('{\n  "published": true,\n  "blog": [\n    1,\n    2\n  ]\n}')
    expect(page.locator('[data-section="Rows"] [data-value]')).to_have_text("published is true and blog is 1 or 2")
    own = page.locator(".field-scope")
    own.get_by_role("button", name="Limit users to their own rows").click()
    own.get_by_label("Field").select_option("author_id")
    expect(page.locator("#id_scope")).to_have_value('{\n  "author_id": "$user.pk"\n}')
    page.get_by_label("One group for each").select_option("author_id")
    page.locator(".field-groups").get_by_role("button", name="Add", exact=True).click()
    expect(page.locator("#id_groups")).to_have_value("posts-by-author-{author_id}")
    take_pictures(page, "builders")
    page.set_viewport_size({"width": 400, "height": 800})
    assert overflow(page) <= 0
    second.get_by_role("button", name="Remove").click()
    expect(page.locator("#id_where")).to_have_value('{\n  "published": true\n}')


def test_json_is_one_click_away_and_its_mistake_is_shown_while_it_is_typed(operator, site, expect):
    """The builder follows the text, and leaves a text alone that it cannot show."""
    page = operator
    page.goto(f"{site.url}{LIST}{save(POST).pk}/change/")
    unfold(page, "Rows")
    rows = page.locator(".field-where")
    expect(rows.get_by_label("Field")).to_have_value("published")
    rows.locator("summary", has_text="As JSON").click()
    page.locator("#id_where").fill('{\n  "published": tru\n}')
    expect(rows.locator(".declbind-mistake")).to_contain_text("line 2, column")
    expect(page.locator("#declbind-panel .declbind-part-bad")).to_contain_text("line 2, column")
    expect(rows.locator(".declbind-builder")).to_be_hidden()
    page.locator("#id_where").fill('{"title": "a", "published": false}')
    expect(rows.locator(".declbind-conditions li")).to_have_count(2)
    expect(rows.locator(".declbind-mistake")).to_be_hidden()


def test_problems_of_the_whole_record_are_shown_while_its_json_is_typed(operator, site, expect):
    """The server judges the text as it would on saving, each problem with its line."""
    page = operator
    page.goto(f"{site.url}{LIST}add/json/")
    text = page.locator("#id_document")
    text.fill('{\n  "stream": "posts",\n  "model": "blog.Post",\n  "fields": ["titel"]\n}')
    expect(page.locator("#declbind-found")).to_contain_text("Did you mean 'title'?")
    page.get_by_role("link", name="line 4, column 14").click()
    expect(text).to_be_focused()
    text.fill('{"stream": "posts", "model": "blog.Post", "fields": ["title"]}')
    expect(page.locator("#declbind-found .declbind-note")).to_have_count(0)
    assert not BindingRecord.objects.exists()

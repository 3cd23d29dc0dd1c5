"""Wagtail's pages, bound by following the tutorial in a project from its template, and edited in Wagtail.

Wagtail writes its pages in most of the possible ways: multi-table inheritance, ``F()`` and ``Concat`` in
``QuerySet.update`` (treebeard's ``path``, ``depth`` and ``numchild``), copies by a key set to None, cascades from a
parent's rows. The database itself records the actual writes: SQL triggers of the test record each.
"""

from __future__ import annotations

import base64
from collections import Counter

import pytest
from playwright.sync_api import Expect

from tests.browser.wagtail_project import Editor, Listen, Listener, WagtailProject, built, editor, listen, project

__all__ = ["built", "editor", "listen", "project"]

#: An image of one pixel.
DOT = base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")


def edit_one_page(editor: Editor, listener: Listener, home: int) -> int:
    """Add, publish, edit and unpublish a page; return its key."""
    # A draft; its parent counts its children.
    editor.write(f"pages/add/home/homepage/{home}/", "Alpha", ".action-save")
    listener.until("pages", "update", home, numchild=1)
    listener.until("homes", "update", home, numchild=1)
    alpha = listener.until("homes", "create", title="Alpha", live=False, url_path="/home/alpha/")
    listener.until("pages", "create", alpha)

    # Published under another title; then a draft again, whose title is not the page's yet.
    editor.write(f"pages/{alpha}/edit/", "Alpha One", "[name=action-publish]")
    listener.until("homes", "update", alpha, title="Alpha One", live=True)
    listener.until("pages", "update", alpha, title="Alpha One", live=True, has_unpublished_changes=False)
    editor.write(f"pages/{alpha}/edit/", "Alpha Two", ".action-save")
    listener.until("pages", "update", alpha, title="Alpha One", draft_title="Alpha Two", has_unpublished_changes=True)

    editor.post(f"pages/{alpha}/unpublish/", {})
    listener.until("homes", "update", alpha, live=False)
    listener.until("pages", "update", alpha, live=False)
    return alpha


def edit_a_branch(editor: Editor, listener: Listener, home: int) -> tuple[int, int]:
    """Add a page and one below it, and change the slug of the first; return both keys."""
    # Two more pages, one below the other.
    editor.publish(f"pages/add/home/homepage/{home}/", "Beta")
    beta = listener.until("homes", "create", title="Beta", live=True)
    editor.publish(f"pages/add/home/homepage/{beta}/", "Gamma")
    listener.until("homes", "update", beta, numchild=1)
    gamma = listener.until("homes", "create", title="Gamma", url_path="/home/beta/gamma/")

    # A new slug changes the addresses below it, which Wagtail writes in one update.
    editor.publish(f"pages/{beta}/edit/", "Bravo")
    listener.until("homes", "update", beta, title="Bravo", url_path="/home/bravo/")
    listener.until("homes", "update", gamma, url_path="/home/bravo/gamma/")
    return beta, gamma


def copy_and_move(editor: Editor, listener: Listener, home: int, alpha: int, beta: int, gamma: int) -> tuple[int, int]:
    """Copy a branch below the first page, and move it there and before the copy; return the keys of the copies."""
    # A copy of both.
    copy = {"new_title": "Copy", "new_slug": "copy", "new_parent_page": str(alpha)}
    editor.post(f"pages/{beta}/copy/", {**copy, "copy_subpages": "on", "publish_copies": "on"})
    copied = listener.until("homes", "create", title="Copy", url_path="/home/alpha/copy/")
    below = listener.until("homes", "create", title="Gamma", url_path="/home/alpha/copy/gamma/")
    assert not {copied, below} & {beta, gamma}

    # Both moved below the first: treebeard writes the paths of the whole branch, and counts children twice.
    branch = listener.rows["homes"][alpha]["path"]
    editor.post(f"pages/{beta}/move/{alpha}/confirm/", {})
    listener.until("homes", "update", gamma, path=f"{branch}00020001")
    listener.until("homes", "update", home, numchild=1)
    listener.until("homes", "update", alpha, numchild=2)
    listener.until("homes", "update", beta, url_path="/home/alpha/bravo/")
    listener.until("homes", "update", gamma, url_path="/home/alpha/bravo/gamma/")

    # And before its sibling: everything after it is moved.
    editor.post(f"pages/{beta}/set_position/?position=0", {}, answers=200)
    listener.until("homes", "update", copied, path=f"{branch}0002")
    listener.until("homes", "update", gamma, path=f"{branch}00010001")
    return copied, below


def unpublish_and_delete(
    editor: Editor, listener: Listener, home: int, alpha: int, branch: tuple[int, int], copies: tuple[int, int]
) -> None:
    """Unpublish and delete both branches at once, and then the first page."""
    (beta, gamma), (copied, below) = branch, copies
    # Several at once.
    editor.post(f"bulk/wagtailcore/page/unpublish/?id={beta}&id={copied}", {"include_descendants": "on"})
    for pk in (beta, gamma, copied, below):
        listener.until("homes", "update", pk, live=False)
    editor.post(f"bulk/wagtailcore/page/delete/?id={beta}&id={copied}", {})
    for numchild, gone in ((1, {beta: "Bravo", gamma: "Gamma"}), (0, {copied: "Copy", below: "Gamma"})):
        listener.until("homes", "update", alpha, numchild=numchild)
        for pk, title in gone.items():
            listener.until("homes", "delete", pk, title=title)
            listener.until("pages", "delete", pk, title=title)

    editor.post(f"pages/{alpha}/delete/", {})
    listener.until("pages", "update", home, numchild=0)
    listener.until("homes", "delete", alpha, title="Alpha One")
    listener.until("pages", "delete", alpha, title="Alpha One")


def test_edits_in_wagtail_arrive(project: WagtailProject, editor: Editor, listen: Listen) -> None:
    """Each edit in Wagtail's admin reaches a client as the right frame; no write of a page is missed or invented."""
    last = project.last_noted()
    listener = listen(editor)
    [home] = listener.rows["homes"]
    assert set(listener.rows["pages"]) == {1, home}
    alpha = edit_one_page(editor, listener, home)
    branch = edit_a_branch(editor, listener, home)
    copies = copy_and_move(editor, listener, home, alpha, *branch)
    unpublish_and_delete(editor, listener, home, alpha, branch, copies)
    listener.catch_up(listen(editor))
    received = listener.writes_of_pages()
    if project.capture == "orm":
        # Before deleting a page Django sets its latest revision to null, in the same call. The hooks report only the
        # delete.
        received += Counter(
            {("update", *row): count for (action, *row), count in received.items() if action == "delete"}
        )
    assert project.recorded_since(last) == received
    assert "Traceback" not in project.log_text()


def test_writes_that_bypass_the_orm_are_captured_by_triggers(
    project: WagtailProject, editor: Editor, listen: Listen
) -> None:
    """Raw SQL is captured by triggers only; Wagtail's command that repairs its effects is captured in any case.

    Without triggers this is the negative control of the test above. Nothing that treebeard 5 writes is of this kind.
    Its series 4, which Wagtail supports as well, moves branches by raw SQL, and counts children by it.
    """
    last = project.last_noted()
    listener = listen(editor)
    [home] = listener.rows["homes"]
    project.sql("UPDATE wagtailcore_page SET numchild = 7 WHERE id = ?", home)
    project.run("fixtree", "--noinput")
    for stream in ("homes", "pages"):
        listener.until(stream, "update", home, numchild=0)
    listener.catch_up(listen(editor))
    missed = project.recorded_since(last) - listener.writes_of_pages()
    assert [write[:2] for write in missed.elements()] == ([("update", home)] if project.capture == "orm" else [])


def test_an_image_with_tags_arrives(project: WagtailProject, editor: Editor, listen: Listen) -> None:
    """Its tags are no many-to-many field of Django's, and are left out; the image's row is captured."""
    listener = listen(editor)
    file = {"name": "dot.gif", "mimeType": "image/gif", "buffer": DOT}
    editor.post("images/add/", {"title": "A dot", "tags": "small, black", "file": file})
    image = listener.until("images", "create", title="A dot", width=1, height=1)
    assert "tags" not in listener.rows["images"][image]
    editor.post(f"images/{image}/", {"title": "The dot", "tags": "small"})
    listener.until("images", "update", image, title="The dot")
    editor.post(f"images/{image}/delete/", {})
    listener.until("images", "delete", image, title="The dot")


@pytest.mark.parametrize("project", ["orm"], indirect=True)
def test_the_console_binds_pages(project: WagtailProject, editor: Editor, listen: Listen, expect: Expect) -> None:
    """Under the admin that Wagtail's template leaves to Django, a type of page is bound with its parent's fields."""
    listener = listen(editor)
    [home] = listener.rows["homes"]
    page, console = editor.page, f"{project.url}/django-admin/declbind/bindingrecord/"
    page.goto(f"{console}add/?model=home.HomePage")
    page.fill("#id_stream", "titles")
    page.locator("#id_fields_names_left [data-name=title]").dblclick()
    page.locator("[name=_save]:visible").first.click()
    expect(page).to_have_url(console)
    for stream in ("pages", "homes", "titles"):
        expect(page.locator("#content")).to_contain_text(stream)

    listener.subscribe("titles")
    assert listener.rows["titles"] == {home: {"title": listener.rows["homes"][home]["title"]}}
    editor.publish(f"pages/{home}/edit/", "Welcome")
    listener.until("titles", "update", home, title="Welcome")

"""Every text of the console goes through a translation: with each translated text in marks, nothing else is left."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.models import User
from django.test import Client
from django.utils import translation

from admin_ui.bindings import cells
from admin_ui.traffic.live import ACTIONS, OUTCOMES
from tests.browser.console import fill_console
from tests.browser.test_console_pages import SCREENS
from tests.console_forms import LIST

#: The marks around each translated text.
BEGIN, END = "\N{MATHEMATICAL LEFT WHITE SQUARE BRACKET}", "\N{MATHEMATICAL RIGHT WHITE SQUARE BRACKET}"
#: Elements that hold no text for people, and those whose text is data or code.
SKIPPED = {"script", "style", "code", "pre", "textarea", "kbd", "title", "q"}
FOR_PEOPLE = {"title", "aria-label", "placeholder", "alt", "data-label", "data-problems"}
LETTERS = re.compile(r"[A-Za-z]{2,}")
#: The words of a text; a name with dots is one.
WORDS = re.compile(r"[A-Za-z_][\w.]*[A-Za-z]")
#: Names of the rows that the pages show, and words of the protocol, which no language translates.
DATA = {
    *ACTIONS, *OUTCOMES, "operator", "articles", "bad", "watched", "prices", "UTC", "view", "create", "update",
    "delete", "resync", "posts", "News", "ann", "web", "etl", "app_label.codename", "default", "blog-desk",
    "blog-1", "intval", "Hello", "World", "blog-{blog_id}", "Browser/1.0", "example", "ticker", "KeyError",
    "__main__.py", "example_site.example.bindings.IntegerValueBinding", "blog/bindings/desk.json",
    "blog/bindings/posts.json", "room_id", "blog-",
}  # fmt: skip
#: Texts of the rows, and one of Django's own that it does not translate: the alternative text of the search icon.
TEXTS = {
    "Posts of a blog, live for its readers.",
    "All posts of a blog, drafts too, for its editors.",
    "The published posts of a blog, for everybody. A post that is withdrawn leaves it as if deleted.",
    "Permission blog.change_post is needed.",
    "Search",
}
#: Texts that `declbind` makes and does not translate yet, as patterns of their beginnings. Add nothing to this list.
EXCEPTIONS = (
    r"active$",
    r"declbind\.W021",
    r"Set UVICORN_WS_MAX_SIZE",
)


class Visible(HTMLParser):
    """Collect the texts of a page that people see and that are not inside of marks."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[str] = []
        #: How many marks are open. A translated text may hold elements, and data.
        self.depth = 0
        self._skipped = 0
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._skipped += tag in SKIPPED
        given = dict(attrs)
        is_button = tag == "button" or given.get("type") in ("submit", "button")
        for name, value in given.items():
            if value and (name in FOR_PEOPLE or (name == "value" and is_button and tag == "input")):
                self._add(unmarked(value)[0])

    def handle_endtag(self, tag: str) -> None:
        self._skipped -= tag in SKIPPED

    def handle_data(self, data: str) -> None:
        text, self.depth = unmarked(data, self.depth)
        if not self._skipped:
            self._add(text)

    def _add(self, text: str) -> None:
        text = " ".join(text.split())
        if LETTERS.search(text):
            self.found.append(text)


def unmarked(text: str, depth: int = 0) -> tuple[str, int]:
    """Return the part of a text outside of marks, and how many marks are open at its end.

    A mark that ends without a beginning belongs to a translated text whose beginning was cut off.
    """
    outside = ""
    for character in text:
        if character == BEGIN:
            depth += 1
        elif character == END:
            outside = outside if depth else ""
            depth = max(0, depth - 1)
        elif not depth:
            outside += character
    return outside, depth


@pytest.fixture
def marked(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put each translated text into marks."""

    def mark(translate: Callable[..., str]) -> Callable[..., str]:
        return lambda *given: f"{BEGIN}{translate(*given)}{END}"

    with translation.override("en"):
        functions: Any = translation._trans  # type: ignore[attr-defined]  # the stubs leave it out
        for name in ("gettext", "ngettext", "pgettext", "npgettext"):
            monkeypatch.setattr(functions, name, mark(getattr(functions, name)))
        yield


def known_words() -> set[str]:
    """Return the words that are data: the names of models, fields and apps, and those of this module's rows."""
    words = set(DATA)
    for model in apps.get_models():
        words |= {model._meta.label, str(model._meta.app_config.verbose_name)}
        words |= {str(model._meta.verbose_name_plural), str(model._meta.verbose_name_plural).capitalize()}
        words |= {model._meta.label_lower, model._meta.app_label}
        words |= {
            f"{model._meta.app_label}.{action}_{model._meta.model_name}" for action in model._meta.default_permissions
        }
        words |= {field.name for field in model._meta.get_fields()}
        words |= {type(field).__name__.removesuffix("Field") for field in model._meta.get_fields()}
    return {word for name in words for word in WORDS.findall(name)}


def find_leftovers(html: str, data: set[str]) -> list[str]:
    """Return the texts of a page that are neither translated nor data."""
    page = Visible(html)
    assert page.depth == 0
    return [text for text in dict.fromkeys(page.found) if text not in TEXTS and not set(WORDS.findall(text)) <= data]


def load_pages(client: Client) -> dict[str, str]:
    """Return the HTML of every screen, with content on each."""
    client.force_login(User.objects.create_superuser("operator", password="x"))
    values = fill_console()
    found = {}
    for name, path in SCREENS.items():
        path = path.format(**values)
        response = client.get(path if path.startswith("/") else LIST + path)
        assert response.status_code == 200, name
        found[name] = response.content.decode()
    return found


@pytest.mark.django_db
def test_every_text_of_the_console_is_translated(client: Client, marked: None) -> None:
    """No screen has a text that is neither translated nor data, apart from the listed ones, all of which are needed."""
    data, used, faults = known_words(), set(), []
    for name, html in load_pages(client).items():
        for text in find_leftovers(html, data):
            known = {pattern for pattern in EXCEPTIONS if re.match(pattern, text)}
            used |= known
            if not known:
                faults.append(f"{name}: {text}")
    assert not faults, "\n".join(faults)
    unused = sorted(set(EXCEPTIONS) - used)
    assert unused == [], f"These are translated now, so remove them from EXCEPTIONS: {unused}"


@pytest.mark.django_db
def test_an_untranslated_text_is_found(client: Client, marked: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: a heading and a tooltip that are not marked in the code."""
    monkeypatch.setattr(cells, "_", str)
    data = known_words()
    client.force_login(User.objects.create_superuser("operator", password="x"))
    fill_console()
    leftovers = find_leftovers(client.get(LIST).content.decode(), data)
    assert {"New fields of the model are not sent before somebody accepts them.", "Why?"} <= set(leftovers)


def test_texts_outside_of_marks_are_found() -> None:
    """Negative control of the reading: a text beside a mark, in an attribute, and after a mark over two elements."""
    html = f'<p title="Hint">{BEGIN}a <b>b</b> c{END} Left</p><code>skipped</code><input type="submit" value="Go now">'
    page = Visible(html)
    assert (page.found, page.depth) == (["Hint", "Left", "Go now"], 0)
    assert find_leftovers(f"<p>{BEGIN}{BEGIN}inner{END} outer{END}</p>", set()) == []
    assert find_leftovers(f"<p>cut off{END}</p>", set()) == []
    assert find_leftovers("<p>articles and more</p>", {"articles"}) == ["articles and more"]

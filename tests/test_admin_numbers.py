"""Numbers in attributes, addresses and values are read by programs: no language formats them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.template import Context, Template
from django.template.base import VariableNode
from django.templatetags.l10n import LocalizeNode
from django.test import Client
from django.utils import translation
from pytest_django import Settings

from declbind.models import Activity, BindingRecord, Configuration, Head, Node, Traffic
from tests.browser.console import fill_console
from tests.browser.test_console_pages import SCREENS
from tests.console_forms import LIST, read_form
from tests.json_types import JSONObject
from tests.servers import ROOT

#: The templates of the console, and those of the example site.
TEMPLATES = sorted(path for package in ("admin_ui", "example_site") for path in (ROOT / package).rglob("*.html"))
LANGUAGES = ["de", "fr", "ar", "hi", "pl"]
#: Attributes for people, which may follow the language.
FOR_PEOPLE = {"title", "aria-label", "placeholder", "alt", "content", "label", "summary", "aria-description"}
#: Attributes in which a comma between digits is a decimal comma. In points and paths it separates two numbers.
ONE_NUMBER = {
    "style", "width", "height", "x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "r", "min", "max", "low", "high",
    "optimum", "step", "rows", "cols", "size", "maxlength", "tabindex", "colspan", "rowspan",
}  # fmt: skip
#: Attributes with several numbers, separated by a comma or a space.
DRAWN = {"d", "points", "viewbox", "transform"}
#: Five digits that start like the keys of these tests, with any text between the thousands and the hundreds.
GROUPED = re.compile(r"(?<![\d.,])1[2-9][^0-9A-Za-z\"\[\]{}:/&?=+_-]{1,6}?[0-9]{3}(?!\d)")
START = 12_000


class Attributes(HTMLParser):
    """Collect the attributes for programs, and what scripts hold, as (tag, attribute, value)."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, str, str]] = []
        self._inside = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self._inside = tag if tag in ("script", "style") else ""
        is_button = tag == "input" and given.get("type") in ("submit", "button")
        for name, value in given.items():
            if name not in FOR_PEOPLE and value and not (is_button and name == "value"):
                self.found.append((tag, name, value))

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside and data.strip():
            self.found.append((self._inside, "", data))


def find_localized(html: str) -> list[tuple[str, str, str]]:
    """Return the values that are formatted for people: grouped digits, non-ASCII digits, a decimal comma."""
    return [
        (tag, name, value)
        for tag, name, value in Attributes(html).found
        if any(char.isdigit() and not char.isascii() for char in value)
        or (
            name not in DRAWN and re.search(r"(?<![\d.,])1[2-9][^0-9A-Za-z\"\[\]{}:/&?=+_-]{1,6}?[0-9]{3}(?!\d)", value)
        )
        or (name in ONE_NUMBER and re.search(r"\d,\d", value))
    ]


# Django groups no digits in Hindi.
@pytest.mark.parametrize("language", [language for language in LANGUAGES if language != "hi"])
def test_localized_numbers_are_detected(language: str, settings: Settings) -> None:
    """Negative control: a careless template, in each language that groups digits or has a decimal comma."""
    settings.USE_THOUSAND_SEPARATOR = True
    careless = '<a data-object="{{ pk }}" style="width: {{ part }}%" href="?pk={{ pk }}">'
    with translation.override(language):
        found = find_localized(Template(careless).render(Context({"pk": 12_002, "part": 12.5})))
    assert found != []
    assert find_localized('<a data-object="12002" style="width: 12.5%" href="?pk=12002" d="M1,200 2,300">') == []


@pytest.fixture
def values(db: None) -> JSONObject:
    """Fill every screen with rows whose keys, versions and offsets have five digits, and with fractions."""
    # First of all, because this commits on MySQL and MariaDB.
    for model in ("bindingrecord", "bindingrevision", "event", "traffic", "savedview", "activity"):
        _count_from(f"declbind_{model}")
    for table in ("auth_user", "blog_post", "blog_blog"):
        _count_from(table)
    Configuration.objects.update_or_create(pk=1, defaults={"version": START, "generation": "g"})
    Head.objects.update_or_create(pk=1, defaults={"epoch": "e", "seq": START})
    found = fill_console()
    for key in ("record", "post", "revision"):
        assert found[key] > START
    Node.objects.update(pid=START + 7, connections=START, version=START)
    Traffic.objects.update(milliseconds=12_345.678, user_pk=str(START))
    Activity.objects.update(sent=12_345, received=12_001, p50=1_234.5, p99=12_345.6)
    return found


def _count_from(table: str) -> None:
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("DELETE FROM sqlite_sequence WHERE name = %s", [table])
            cursor.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (%s, %s)", [table, START])
        elif connection.vendor == "postgresql":
            cursor.execute("SELECT setval(pg_get_serial_sequence(%s, 'id'), %s)", [table, START])
        else:
            cursor.execute(f"ALTER TABLE {table} AUTO_INCREMENT = {START + 1}")


@pytest.fixture
def operator(values: Mapping[str, object]) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("operator"))
    return client


def pages_of(client: Client, values: Mapping[str, object], language: str) -> Iterator[tuple[str, str]]:
    """Yield the name and the text of every page, and of every answer to a script."""
    headers = {"accept-language": language}

    def look(path: str) -> str:
        answer = client.get(path, headers=headers)
        assert answer.status_code == 200, (path, answer.status_code)
        text = answer.content.decode()
        assert f'<html lang="{language}"' in text or "json" in str(answer["Content-Type"]), path
        return text

    for name, path in SCREENS.items():
        path = path.format(**values)
        yield name, look(path if path.startswith("/") else LIST + path)
    yield "why with an offset", look(f"{LIST}why/?stream=articles&row={values['post']}&offset={values['offset']}")
    yield (
        "try a revision",
        look(
            f"{LIST}try/?stream=articles&action=outbound-update&pk={values['post']}&revision={values['old']}"
            f"&who=operator&values=%7B%22title%22:%20%22x%22%7D"
        ),
    )
    yield "live, looking back", look(f"{LIST}live/?cursor=e:{START}:0")
    rows = json.loads(look(f"{LIST}live/rows/?cursor=e:{START}:0&extras=1&whole=1"))
    yield "live rows", json.dumps(rows)
    yield from ((f"live rows {at}", text) for at, text in enumerate(_texts_in(rows)))
    form = read_form(look(f"{LIST}{values['record']}/change/"))
    panel = client.post(
        f"{LIST}panel/", {**form, "object": values["record"], "look_pk": values["post"]}, headers=headers
    )
    assert panel.status_code == 200
    yield from ((f"panel {at}", text) for at, text in enumerate(_texts_in(panel.json())))
    looked = client.post(f"{LIST}{values['record']}/change/", {**form, "_look": "1"}, headers=headers)
    yield "change with a look", looked.content.decode()
    asked = {"action": "enable", "_selected_action": list(BindingRecord.objects.values_list("pk", flat=True))}
    yield "enable", client.post(LIST, asked, headers=headers).content.decode()
    text = json.dumps([{"stream": "more", "model": "blog.Post", "fields": ["title"]}])
    yield "review of an import", client.post(f"{LIST}import/", {"text": text}, headers=headers).content.decode()


def _texts_in(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts_in(item)


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_page_localizes_what_programs_read(
    operator: Client, values: Mapping[str, object], settings: Settings, language: str
) -> None:
    """No page and no answer to a script contains localized numbers for programs."""
    settings.USE_THOUSAND_SEPARATOR = True
    found = {name: find_localized(text) for name, text in pages_of(operator, values, language)}
    assert len(found) > len(SCREENS)
    assert {name: faults for name, faults in found.items() if faults} == {}


def test_the_pages_contain_large_numbers(operator: Client, values: Mapping[str, object], settings: Settings) -> None:
    """Negative control: the keys are in attributes of the pages, so the previous test has numbers to check."""
    settings.USE_THOUSAND_SEPARATOR = True
    pages = dict(pages_of(operator, values, "de"))
    for name, attribute in (
        ("change", f'data-object="{values["record"]}"'),
        ("change with a look", f'value="{values["post"]}"'),
        ("try", f'value="{values["old"]}"'),
        ("live", f'data-offset="{values["offset"]}"'),
    ):
        assert attribute in pages[name], name


# Templates -----------------------------------------------------------------------------------------------------------

TAG = re.compile(r"<[a-zA-Z](?:\{\{.*?\}\}|\{%.*?%\}|\"[^\"]*\"|'[^']*'|[^>\"'{]|\{(?![{%]))*>", re.DOTALL)
#: Filters that always format for people.
WRITES_FOR_PEOPLE = re.compile(
    r"\|\s*(?:localize|intcomma|intword|filesizeformat|floatformat(?!:\"-?\d*u)|naturaltime)"
)


def variables_outside(source: str) -> list[str]:
    """Return the variables of a template that the language may reformat."""

    def walk(nodes: Any, is_safe: bool) -> Iterator[str]:
        for node in nodes:
            inside = not node.use_l10n if isinstance(node, LocalizeNode) else is_safe
            if isinstance(node, VariableNode) and not inside and str(node.filter_expression) != "block.super":
                yield str(node.filter_expression)
            for name in (*node.child_nodelists, "nodelist_loop", "nodelist_empty"):
                yield from walk(getattr(node, name, None) or (), inside)
            for _, branch in getattr(node, "conditions_nodelists", ()):
                yield from walk(branch, inside)

    return list(walk(Template(source).nodelist, False))


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_templates_are_safe_by_construction(path: Path) -> None:
    """Every template's content is inside ``{% localize off %}``, and no filter in a tag formats for people."""
    source = path.read_text()
    assert variables_outside(source) == []
    assert find_filters(source) == []


def find_filters(source: str) -> list[str]:
    return [tag for tag in TAG.findall(source) if WRITES_FOR_PEOPLE.search(tag)]


def test_an_unsafe_template_is_detected() -> None:
    """Negative control of the previous test."""
    assert variables_outside('<a data-x="{{ pk }}">') == ["pk"]
    assert variables_outside("{% if a %}{% for b in c %}{{ b }}{% endfor %}{% endif %}") != []
    safe = '{% load l10n %}{% localize off %}{% if a %}<a data-x="{{ pk }}">{% endif %}{% endlocalize %}'
    assert variables_outside(safe) == []
    assert find_filters('<meter value="{{ part|floatformat:1 }}">') != []
    assert find_filters('<meter value="{{ part|floatformat:"1u" }}"> {{ part|floatformat:1 }}') == []

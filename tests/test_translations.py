"""The catalogues of translations are complete and sound, and every text of the templates and scripts is marked."""

from __future__ import annotations

import gettext
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import django
import pytest
from babel.messages.catalog import Catalog
from django.utils import translation

from admin_ui.common.script_texts import TEXTS, translate_texts
from tests import messages
from tests.servers import ROOT

TEMPLATES = sorted((ROOT / "admin_ui").rglob("*.html"))
SCRIPTS = sorted((ROOT / "admin_ui/static").rglob("*.js"))
CATALOGUES = [(package, language) for package in messages.PACKAGES for language in messages.LANGUAGES]
PLACEHOLDER = re.compile(r"%\(\w+\)[sr]|\{\w+\}")
ELEMENT = re.compile(r"</?\w[^>]*>")
#: What is the same in every language: a word of the protocol, an example of JSON, and the classes of a page's body.
NO_TEXTS = {"resync", '{"room_id": 3}', "app- model- declbind-page"}
FOR_PEOPLE = {"title", "aria-label", "placeholder", "alt", "data-label", "data-problems"}


class Unmarked(HTMLParser):
    """Collect the texts and attributes for people in a template whose tags are left out."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self._inside: list[str] = []
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside.append(tag)
        given = dict(attrs)
        is_button = tag == "input" and given.get("type") in ("submit", "button")
        for name, value in given.items():
            if name in FOR_PEOPLE or (name == "value" and is_button):
                self._add(value or "")

    def handle_endtag(self, tag: str) -> None:
        if tag in self._inside:
            del self._inside[len(self._inside) - 1 - self._inside[::-1].index(tag) :]

    def handle_data(self, data: str) -> None:
        if not {"code", "script", "style"} & set(self._inside):
            self._add(data)

    def _add(self, text: str) -> None:
        if re.search(r"[A-Za-z]", text) and text.strip() not in NO_TEXTS:
            self.found.append(" ".join(text.split()))


def find_unmarked(source: str) -> list[str]:
    """Return the texts of a template that no translation is asked for."""
    source = re.sub(r"{#.*?#}|{% comment %}.*?{% endcomment %}", "", source)
    source = re.sub(r"{% blocktrans(late)?\b.*?{% endblocktrans(late)? %}", "", source, flags=re.DOTALL)
    defaults = re.findall(r"\|default(?:_if_none)?:([\"'])([^\"']*[A-Za-z][^\"']*)\1", source)
    return [*(text for _, text in defaults), *Unmarked(re.sub(r"{%.*?%}|{{.*?}}", "", source)).found]


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_every_text_of_a_template_is_marked(path: Path) -> None:
    """Texts, and attributes for people, are inside of ``trans`` or ``blocktrans``."""
    assert find_unmarked(path.read_text(encoding="utf-8")) == []


def test_an_unmarked_text_is_found() -> None:
    """Negative control: texts, attributes, values of buttons and defaults."""
    assert find_unmarked('<p>Some <b>{{ text }}</b> here</p><a title="{% if x %}Tip{% endif %}">') == [
        "Some",
        "here",
        "Tip",
    ]
    assert find_unmarked('<input type="submit" value="Go"><input type="hidden" value="x">') == ["Go"]
    assert find_unmarked('{{ name|default:"nobody" }}') == ["nobody"]
    marked = '{% blocktrans trimmed %}Some <b>text</b>{% endblocktrans %}<i title="{% trans "Tip" %}">{{ n }} %</i>'
    assert find_unmarked(f'{marked}{{{{ name|default:_("nobody") }}}}') == []


def test_the_scripts_have_their_texts() -> None:
    """Each text of a script is in the list that the pages carry, and the list has no other."""
    used = {text for path in SCRIPTS for text in messages.find_script_texts(path.read_text(encoding="utf-8"))}
    assert used == set(TEXTS)
    assert messages.find_script_texts('text("One {n}", { n }); globalThis.declbindText("Two")') == ["One {n}", "Two"]


def test_pages_carry_only_what_is_translated() -> None:
    """In English the pages carry no texts; in German those that differ."""
    with translation.override("en"):
        assert translate_texts() == {}
    with translation.override("de"):
        assert translate_texts()["Paused, gap"] == "Angehalten, mit Lücke"


@pytest.fixture(params=CATALOGUES, ids="-".join)
def given(request: pytest.FixtureRequest) -> tuple[str, str, Catalog]:
    """Return package, language and catalogue."""
    package, language = request.param
    return package, language, messages.read_catalogue(messages.catalogue_path(package, language))


def test_a_catalogue_has_every_text(given: tuple[str, str, Catalog]) -> None:
    """It has all marked texts and no other, none of them empty, fuzzy or obsolete, and is compiled."""
    package, language, catalogue = given
    marked, translated = messages.find_messages(package), messages.translations_of(catalogue)
    assert set(translated) - set(marked) == set(), "Run `python -m tests.messages`."
    assert set(marked) - set(translated) == set(), "Run `python -m tests.messages`, and translate."
    assert [key for key, strings in translated.items() if not all(strings)] == []
    assert not catalogue.obsolete
    assert [message.id for message in catalogue if message.id and message.fuzzy] == []
    path = messages.catalogue_path(package, language)
    assert path.read_text(encoding="utf-8") == messages.format_catalogue(language, marked, translated)
    assert path.with_suffix(".mo").read_bytes() == messages.compile_catalogue(language, catalogue)


def find_faults(ids: tuple[str, ...], strings: tuple[str, ...]) -> Iterator[str]:
    """Yield what differs between a text and its translations: placeholders, elements, and quotes in attributes."""
    for string in strings:
        if set(PLACEHOLDER.findall(string)) not in [set(PLACEHOLDER.findall(text)) for text in ids]:
            yield f"placeholders: {string}"
        if sorted(ELEMENT.findall(string)) not in [sorted(ELEMENT.findall(text)) for text in ids]:
            yield f"elements: {string}"
        if '"' in ELEMENT.sub("", string) and '"' not in ELEMENT.sub("", ids[0]):
            yield f"a quote that would end an attribute: {string}"


def test_translations_keep_placeholders_and_elements(given: tuple[str, str, Catalog]) -> None:
    """Each translation has the placeholders and the elements of its text, in any order."""
    faults = [
        fault
        for message in given[2]
        if message.id
        for fault in find_faults(messages.texts_of(message.id), messages.texts_of(message.string))
    ]
    assert faults == []


def test_a_broken_translation_is_found() -> None:
    """Negative control."""
    assert list(find_faults(("{a} of %(n)s",), ("%(n)s: {a}",))) == []
    assert len(list(find_faults(("{a} of {b}", "{a}"), ("{b}", "{a}")))) == 1
    assert len(list(find_faults(("<b>x</b>",), ("<i>x</i>",)))) == 1
    assert len(list(find_faults(("x",), ('"x"',)))) == 1


def test_a_text_that_is_no_literal_is_refused() -> None:
    """A marked text with values already in it could not be in a catalogue."""
    assert list(messages.find_calls('_("a"); ngettext("b", "c", n); pgettext("d", "e")')) == [
        ("", "a", ""), ("", "b", "c"), ("d", "e", ""),
    ]  # fmt: skip
    with pytest.raises(ValueError, match="expected a literal text"):
        list(messages.find_calls('_(f"{n} rows")'))
    found = list(messages.find_template_texts('{% load i18n %}{% trans "a" context "b" %}{{ x|default:_("c") }}'))
    assert found == [("b", "a", ""), ("", "c", "")]


def test_the_compiled_form_is_read_by_gettext(tmp_path: Path) -> None:
    """Context, plural and header arrive."""
    path = tmp_path / "x.po"
    marked = {("", "One"): messages.Message("Many", {"f"}), ("c", "Two"): messages.Message("", {"f"})}
    path.write_text(messages.format_catalogue("de", marked, {("", "One"): ("Eins", "Viele"), ("c", "Two"): ("Zwei",)}))
    compiled = path.with_suffix(".mo")
    compiled.write_bytes(messages.compile_catalogue("de", messages.read_catalogue(path)))
    with compiled.open("rb") as file:
        found = gettext.GNUTranslations(file)
    assert [found.ngettext("One", "Many", 1), found.ngettext("One", "Many", 2)] == ["Eins", "Viele"]
    assert [found.pgettext("c", "Two"), found.gettext("Two")] == ["Zwei", "Two"]


def test_texts_that_django_translates_too_are_translated_alike(given: tuple[str, str, Catalog]) -> None:
    """Django merges all catalogues, and the order of the apps decides which one wins.

    A text that means something else here has a context.
    """
    known: dict[str, set[str]] = {}
    for path in Path(django.__file__).parent.glob(f"**/locale/{given[1]}/LC_MESSAGES/django.mo"):
        with path.open("rb") as file:
            entries: dict[object, str] = vars(gettext.GNUTranslations(file))["_catalog"]
        for key, text in entries.items():
            known.setdefault(str(key[0] if isinstance(key, tuple) else key), set()).add(text)
    differing = {
        text: (strings, known[text])
        for (context, text), strings in messages.translations_of(given[2]).items()
        if not context and text in known and not set(strings) <= known[text]
    }
    assert differing == {}

"""Consequences: an edit in plain words. Every edit that opens something is marked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from declbind.binding_classes import build_binding
from declbind.console import comparison
from declbind.console import consequences as module
from declbind.console.consequences import Consequence, consequences, in_words
from declbind.core.spec import ACTIONS, AUDIENCES, KEYS, BindingSpec
from declbind.fields import concrete_field
from declbind.record_validation import validate_document
from example_site.blog.models import Post
from tests.json_types import JSONObject

POST: JSONObject = {"stream": "posts", "model": "blog.Post", "fields": ["title"]}


def say(old: JSONObject | None, new: JSONObject | None) -> list[str]:
    """Return the words of each consequence, with a mark for those that widen."""
    return [f"{item.sign}{'!' if item.widens else ''} {item.text}" for item in consequences(old, new)]


EDITS: list[tuple[JSONObject, JSONObject, list[str]]] = [
    ({}, {"fields": ["title", "body"]}, ["+! also sends body"]),
    ({"fields": ["title", "body"]}, {}, ["- no longer sends body"]),
    ({"fields": ["title", "body"]}, {"fields": ["body", "title"]}, ["~ sends the fields in another order"]),
    ({"fields": "__all__"}, {"fields": ["__all__"]}, ["~ has the same meaning, written differently"]),
    (
        {"fields": ["blog", "title", "body", "published", "author", "created", "modified"]},
        {"fields": "__all__", "grow": True},
        ["+! also sends fields that are added to the model later"],
    ),
    (
        {"fields": ["title"], "writable": None},
        {"fields": "__all__", "writable": None, "grow": True},
        ["+! also accepts blog, body, published", "+! also accepts editable fields that are added to the model later",
         "+! also sends blog, body, published, author, created, modified",
         "+! also sends fields that are added to the model later"],
    ),
    (
        {"fields": "__all__", "grow": True},
        {"fields": "__all__"},
        ["- no longer sends fields that are added to the model later"],
    ),
    ({}, {"retention": 60}, ["- keeps values in the log for 60 s (was: as long as the settings say)"]),
    ({"retention": 60}, {"retention": 90}, ["+ keeps values in the log for 90 s (was: for 60 s)"]),
    ({"retention": 60}, {}, ["+ keeps values in the log as long as the settings say (was: for 60 s)"]),
    ({"fields": "__all__"}, {"fields": None, "exclude": ["body"]}, ["- no longer sends body"]),
    ({"fields": None, "exclude": ["body"]}, {"fields": "__all__"}, ["+! also sends body"]),
    ({}, {"permissions": {"view": True}}, ["+! anyone may subscribe (was: users with the permission blog.view_post)"]),
    ({}, {"permissions": {"view": "blog.view_post"}}, ["~ has the same meaning, written differently"]),
    (
        {},
        {"permissions": {"view": "blog.change_post"}},
        ["+! users with the permission blog.change_post may subscribe (was: users with the permission blog.view_post)"],
    ),
    (
        {"permissions": {"view": True}},
        {},
        ["- only users with the permission blog.view_post may subscribe (was: anyone)"],
    ),
    (
        {},
        {"permissions": {"view": "staff"}},
        ["+! staff users may subscribe (was: users with the permission blog.view_post)"],
    ),
    (
        {"permissions": {"view": "authenticated"}},
        {"permissions": {"view": "staff"}},
        ["- only staff users may subscribe (was: users who are logged in)"],
    ),
    (
        {"permissions": {"view": "staff"}},
        {"permissions": {"view": "authenticated"}},
        ["+! users who are logged in may subscribe (was: staff users)"],
    ),
    (
        {},
        {"permissions": {"delete": False}},
        ["- no longer accepts delete (was: users with the permission blog.delete_post)"],
    ),
    (
        {"direction": "outbound"},
        {"permissions": {"create": False, "update": False}},
        ["+! also accepts title", "+! users with the permission blog.delete_post may delete rows (was: nobody)",
         "+! accepts changes from clients"],
    ),
    (
        {"direction": "inbound"},
        {"direction": "inbound", "permissions": {"view": True}},
        ["+! anyone may ask for values when they write (was: users with the permission blog.view_post)"],
    ),
    ({}, {"direction": "outbound"}, ["- no longer accepts changes from clients"]),
    ({}, {"writable": []}, ["- no longer accepts title"]),
    ({"writable": []}, {}, ["+! also accepts title"]),
    ({}, {"where": {"published": True}}, ["- only rows where published is true"]),
    ({"where": {"published": True}}, {}, ["+! also rows without published is true"]),
    ({"where": {"title": ["a", "b"]}}, {"where": {"title": ["c", "b"]}},
     ['+! also rows where title is "c"', '- no longer rows where title is "a"']),
    (
        {"where": {"title": ["a", "b"]}},
        {"where": {"title": ["b", "a"]}},
        ["~ has the same meaning, written differently"],
    ),
    (
        {"groups": ["x-{author_id}"]},
        {"groups": ["x-{author_id}"], "scope": {"author_id": "$user.pk"}},
        ["- each user is limited to their own rows: author_id is $user.pk"],
    ),
    (
        {"groups": ["x-{author_id}"], "scope": {"author_id": "$user.pk"}},
        {"groups": ["x-{author_id}"]},
        ["+! users are no longer limited to their own rows by author_id (was: $user.pk)"],
    ),
    ({}, {"groups": ["t-{title}"]}, ["+ also groups rows by t-{title}", "- no longer groups rows by posts"]),
    ({}, {"groups": ["b-{body}"]}, ["+! also groups rows by b-{body}", "- no longer groups rows by posts"]),
    ({"groups": ["t-{title}"]}, {}, ["+! also groups rows by posts", "- no longer groups rows by t-{title}"]),
    ({"groups": ["t-{blog}"]}, {"groups": ["u-{blog_id}"]}, ["~ group t-{blog} is called u-{blog_id} now"]),
    ({}, {"auto_subscribe": True}, ["+! subscribes new connections automatically"]),
    ({"auto_subscribe": True}, {}, ["- no longer subscribes new connections automatically"]),
    ({}, {"capture": "triggers"}, ["+ also captures raw SQL and other programs, once its triggers are installed"]),
    ({"capture": "triggers"}, {}, ["- no longer captures raw SQL and other programs"]),
    ({"direction": "inbound"}, {"direction": "inbound", "capture": "triggers", "also": ["blog"]},
     ["~ has the same meaning, written differently"]),
    ({}, {"also": ["author"]}, ["+! is sent again when author changes"]),
    ({"also": ["blog"]}, {"also": ["author", "blog", "author__groups"]},
     ["+! is sent again when author or author__groups changes"]),
    ({"also": ["author", "blog"]}, {"also": ["blog"]}, ["- is no longer sent again when author changes"]),
    ({"also": ["author", "blog"]}, {"also": ["blog", "author"]}, ["~ has the same meaning, written differently"]),
    ({}, {"description": "x"}, ["~ has another description"]),
    ({}, {"stream": "entries"}, ["~ is called entries now; clients of posts lose their subscriptions"]),
    ({}, {"model": "blog.Blog"},
     ["+! users with the permission blog.add_blog may create rows (was: users with the permission blog.add_post)",
      "+! users with the permission blog.change_blog may change rows (was: users with the permission blog.change_post)",
      "+! users with the permission blog.delete_blog may delete rows (was: users with the permission blog.delete_post)",
      "+! users with the permission blog.view_blog may subscribe (was: users with the permission blog.view_post)",
      "~! is bound to blog.Blog (was: blog.Post)"]),
    ({}, {"enabled": False}, ["- is disabled: for clients, the stream does not exist"]),
    ({"enabled": False}, {"enabled": False, "fields": ["title", "body"]}, ["+ also sends body"]),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "words"), EDITS)
def test_each_kind_of_edit_is_described(old, new, words):
    """Fields are listed as the model names them, and what opens something is marked."""

    def whole(part: JSONObject) -> JSONObject:
        return {key: value for key, value in {**POST, "writable": ["title"], **part}.items() if value is not None}

    assert sorted(say(whole(old), whole(new))) == sorted(words)


def test_an_unchanged_record_has_no_consequences():
    """The same holds if there was no record before and after."""
    assert consequences(POST, dict(POST)) == ()


NEW = [
    ({}, False),
    ({"fields": "__all__"}, True),
    ({"fields": "__all__", "enabled": False}, False),
    ({"permissions": {"view": True}}, True),
    ({"permissions": {"view": True}, "direction": "inbound"}, False),
    ({"permissions": {"update": True}, "direction": "outbound"}, False),
    ({"permissions": {"delete": True}}, True),
    ({"model": "auth.User", "fields": ["password"], "sensitive": ["password"]}, True),
]


@pytest.mark.parametrize(("part", "widens"), NEW)
def test_a_first_record_widens_if_it_admits_everyone(part, widens):
    """All fields and sensitive fields need confirmation too. Access for holders of a permission does not."""
    found = consequences(None, {**POST, **part})
    assert any(item.widens for item in found) is widens
    assert found[0].text.startswith("is a new binding")


@pytest.mark.parametrize("old", [{**POST, "enabled": False}, {**POST, "fields": ["gone"]}, {"stream": 3}])
def test_coming_into_force_widens(old):
    """The record was disabled, invalid or unreadable before. Everything that it opens is described."""
    found = consequences(old, POST)
    assert found[0].widens
    assert "sends title" in in_words(found)


def test_renaming_a_record_into_force_widens():
    """A file took its stream, so the record was not in force."""
    new = {**POST, "stream": "entries"}
    assert not any(item.widens for item in consequences(POST, new))
    assert consequences(POST, new, in_force=False)[0].widens


def test_a_removal_widens_nothing():
    """The consequences say so."""
    assert consequences(POST, None) == (Consequence("-", "is removed: for clients, the stream no longer exists"),)


@pytest.mark.parametrize(
    "bad", [{}, {"stream": 1}, {"stream": "x", "model": "no.Such", "fields": []}, {**POST, "x": 1}]
)
def test_an_unreadable_record_counts_as_widening(bad):
    """It raises no exception, and is not considered harmless."""
    assert [item.widens for item in consequences(POST, bad)] == [True]


# Generated records ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Visitor:
    """A user who holds some codenames."""

    pk: int | None
    codenames: frozenset[str]
    is_staff: bool = False
    is_active: bool = True

    @property
    def is_authenticated(self) -> bool:
        return self.pk is not None

    def has_perm(self, codename: str, obj: object = None) -> bool:
        return codename in self.codenames


CODENAMES = ("blog.view_post", "blog.add_post", "blog.change_post", "blog.delete_post")
VISITORS: list[Any] = [
    Visitor(None, frozenset()),
    Visitor(1, frozenset()),
    *(Visitor(1, frozenset({codename})) for codename in CODENAMES),
    Visitor(2, frozenset(CODENAMES)),
    Visitor(1, frozenset(), is_staff=True),
    Visitor(1, frozenset(), is_staff=True, is_active=False),
]
ROWS = [
    Post(pk=number, title=title, body="x", blog_id=blog, author_id=author, published=published)
    for number, (title, blog, author, published) in enumerate(
        [("a", 1, 1, True), ("a", 1, None, True), ("b", 2, 2, False), ("c", 1, 1, False), ("b", 2, None, True)]
    )
]
NAMES = ("title", "body", "published", "author", "blog")


def possible(document: JSONObject) -> set[tuple[Any, ...]]:
    """Return everything that some visitor can get or write, as the production code decides."""
    spec = BindingSpec.from_dict(document)
    if not spec.enabled:
        return set()
    binding = build_binding(spec)
    found: set[tuple[Any, ...]] = set()
    for visitor in VISITORS:
        bound = binding(visitor)
        owned = bound.scope_values()
        for row in ROWS:
            if not bound.is_inside(row) or any(
                value is None or getattr(row, concrete_field(Post, name).attname) != value
                for name, value in owned.items()
            ):
                continue
            if spec.outbound and bound.has_view_permission(visitor, {}) and bound.group_names(row):
                found |= {("get", visitor, row.pk, field.name) for field in (*binding.bound_fields(), Post._meta.pk)}
            for action in ACTIONS[1:] if spec.inbound else ():
                # None as the row: object permissions would need a database, and these visitors have none.
                if bound.has_permission(visitor, action, None):
                    names = [field.name for field in binding.writable_fields()] if action != "delete" else []
                    if action != "create" and bound.has_view_permission(visitor, {}):
                        # By a condition on the write.
                        found |= {("get", visitor, row.pk, field.name) for field in binding.bound_fields()}
                    found |= {(action, visitor, row.pk, name) for name in ("", *names)}
    return found


rules = st.one_of(st.booleans(), st.sampled_from(CODENAMES), st.sampled_from(AUDIENCES))
some = st.lists(st.sampled_from(NAMES), unique=True, max_size=4)


@st.composite
def documents(draw: st.DrawFn) -> JSONObject:
    found: JSONObject = {
        "stream": "posts",
        "model": "blog.Post",
        "enabled": draw(st.sampled_from([True] * 5 + [False])),
    }
    kind = draw(st.sampled_from(["fields", "fields", "exclude", "all"]))
    found |= {"fields": "__all__"} if kind == "all" else {kind: draw(some)}
    if draw(st.booleans()):
        found["permissions"] = draw(st.dictionaries(st.sampled_from(ACTIONS), rules))
    found["direction"] = draw(st.sampled_from(["both", "both", "outbound", "inbound"]))
    if draw(st.booleans()):
        found["writable"] = draw(some)
    found["where"] = draw(
        st.fixed_dictionaries(
            {},
            optional={
                "published": st.booleans(),
                "title": st.lists(st.sampled_from(["a", "b", "c"]), unique=True, min_size=1, max_size=3),
                "author_id": st.sampled_from([1, 2, None]),
            },
        )
    )
    found["groups"] = draw(
        st.sampled_from([[], ["all"], ["x-{author_id}"], ["x-{author}"], ["b-{blog_id}"], ["b-{blog}-{author}"],
                         ["all", "x-{author}"], ["x-{author}", "b-{blog_id}"]])
    )  # fmt: skip
    if all("author" in group for group in found["groups"]) and found["groups"] and draw(st.booleans()):
        found["scope"] = {"author_id" if "author_id" in found["groups"][0] else "author": "$user.pk"}
    if draw(st.booleans()):
        found["capture"] = draw(st.sampled_from(["orm", "triggers"]))
        found["also"] = draw(st.lists(st.sampled_from(["author", "blog", "author__groups"]), unique=True, max_size=2))
    return found


def is_valid(document: JSONObject) -> bool:
    return not validate_document(document)[1]


edits = st.tuples(documents().filter(is_valid), documents().filter(is_valid))


def opens_silently(edit: tuple[JSONObject, JSONObject], ignored: str = "") -> bool:
    """Return whether an edit makes something possible without a consequence (except those of one key)."""
    old, new = edit
    found = [item for item in consequences(old, new) if item.key != ignored]
    return not any(item.widens for item in found) and bool(possible(new) - possible(old))


@hypothesis_settings(max_examples=250, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(edits)
def test_an_edit_that_opens_something_is_marked(edit):
    """This holds for any visitor, row and field that the new record admits and the old one did not."""
    assert not opens_silently(edit)


@hypothesis_settings(max_examples=150, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(documents().filter(is_valid), st.data())
def test_an_edit_of_one_key_that_opens_something_is_marked(old, data):
    """Small edits have no other key that could hide the missing mark."""
    other = data.draw(documents().filter(is_valid))
    key = data.draw(st.sampled_from(["permissions", "direction", "writable", "where", "groups", "enabled", "fields"]))
    new = {**old, key: other[key]} if key in other else {name: value for name, value in old.items() if name != key}
    if key == "fields":
        new.pop("exclude", None)
        new.setdefault("fields", ["title"])
    if is_valid(new):
        assert not opens_silently((old, new))


SILENT: dict[str, tuple[JSONObject, JSONObject]] = {
    "fields": ({"writable": []}, {"writable": [], "fields": ["title", "body"]}),
    "permissions": ({}, {"permissions": {"view": True}}),
    "writable": ({"writable": []}, {}),
    "where": ({"where": {"title": ["a"]}}, {"where": {"title": ["a", "b"]}}),
    "groups": ({"groups": ["x-{author}"]}, {}),
    "scope": ({"groups": ["x-{author}"], "scope": {"author": "$user.pk"}}, {"groups": ["x-{author}"]}),
    "enabled": ({"enabled": False}, {}),
}


@pytest.mark.parametrize("key", SILENT)
def test_a_comparison_that_omits_a_key_is_detected(key):
    """Negative control: the only consequence of an edit is left out."""
    old, new = ({**POST, **part} for part in SILENT[key])
    assert not opens_silently((old, new))
    assert opens_silently((old, new), ignored=key)


def test_every_key_of_a_record_is_described():
    """A new key must be described too."""
    text = "".join(Path(str(part.__file__)).read_text(encoding="utf-8") for part in (comparison, module))
    assert [key for key in KEYS if f'"{key}"' not in text and key != "exclude"] == []

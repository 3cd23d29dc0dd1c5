"""BindingSpec: a record as a value, and back."""

import copy
import json
import pickle
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from declbind.core.errors import ConfigError, Problem
from declbind.core.schema import problems
from declbind.core.spec import DEFAULTS, KEYS, BindingSpec, FrozenMapping

VALID = json.loads((Path(__file__).parent.parent / "data" / "records" / "valid.json").read_text(encoding="utf-8"))
GOOD = {"stream": "intval", "model": "example.IntegerValue", "fields": ["name"]}

names = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True)
name_lists = st.lists(names, unique=True, max_size=4)
# NUL is refused everywhere in a record: PostgreSQL cannot store it.
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts
rules = st.booleans() | st.sampled_from(["app.view_thing", "app.moderate", "authenticated", "staff"])


@st.composite
def records(draw):
    """Draw records that pass the schema, with most keys left out at times."""
    record = {
        "stream": draw(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True)),
        "model": f"{draw(names)}.{draw(names)}",
    }
    kind = draw(st.sampled_from(["fields", "exclude", "all", "all in a list"]))
    if kind in ("fields", "exclude"):
        record[kind] = draw(name_lists)
    else:
        record["fields"] = "__all__" if kind == "all" else ["__all__"]
    scope = draw(st.lists(names, unique=True, max_size=2))
    optional = {
        "groups": st.just(["".join(f"own-{{{name}}}-" for name in scope) or "everyone"]),
        "permissions": st.sampled_from(["app.moderate", "staff"])
        | st.dictionaries(st.sampled_from(["view", "create", "update", "delete"]), rules),
        "direction": st.sampled_from(["both", "outbound", "inbound"]),
        "writable": name_lists,
        "where": st.dictionaries(names, scalars | st.lists(st.integers(), min_size=1, unique=True), max_size=3),
        "relate": st.dictionaries(
            names, st.just("any") | st.dictionaries(names, st.just("$user.pk"), min_size=1, max_size=2), max_size=2
        ),
        "auto_subscribe": st.booleans(),
        "sensitive": name_lists,
        "serializer": st.sampled_from(["default", "drf"]),
        "capture": st.sampled_from(["orm", "triggers"]),
        "also": name_lists,
        "retention": st.none() | st.integers(60, 2**31 - 1),
        "enabled": st.booleans(),
        "description": texts,
    }
    for key, strategy in optional.items():
        if draw(st.booleans()) or (key == "groups" and scope):
            record[key] = draw(strategy)
    if kind != "fields" and draw(st.booleans()):
        record["grow"] = draw(st.booleans())
    if scope:
        record["scope"] = dict.fromkeys(scope, "$user.pk")
    return record


@given(records())
def test_round_trip(record):
    """A record becomes a spec, the spec a canonical record, and that record an equal spec."""
    assert problems(record) == []
    spec = BindingSpec.from_dict(record)
    canonical = spec.to_dict()
    again = BindingSpec.from_dict(canonical)
    assert again == spec
    assert hash(again) == hash(spec)
    assert again.to_dict() == canonical
    assert json.loads(json.dumps(canonical)) == canonical
    assert problems(canonical) == []


@given(records())
def test_canonical_record_is_minimal_and_ordered(record):
    """The canonical record has its keys in table order, and no key at its default."""
    canonical = BindingSpec.from_dict(record).to_dict()
    assert list(canonical) == [key for key in KEYS if key in canonical]
    for key in set(canonical) - {"stream", "model"}:
        shorter = {name: value for name, value in canonical.items() if name != key}
        assert problems(shorter) or BindingSpec.from_dict(shorter).to_dict() != canonical


@pytest.mark.parametrize("case", VALID, ids=lambda case: case["name"])
def test_every_good_record_becomes_a_spec(case):
    """Each valid record can be turned into a spec and back."""
    spec = BindingSpec.from_dict(case["record"])
    assert BindingSpec.from_dict(spec.to_dict()) == spec
    assert spec.group_templates


def test_canonical_record_of_a_small_one():
    """Defaults are not written, and the schema's address is dropped."""
    record = {"enabled": True, "fields": "__all__", "$schema": "x", "model": "a.B", "stream": "s", "where": {}}
    assert BindingSpec.from_dict(record).to_dict() == {"stream": "s", "model": "a.B", "fields": ["__all__"]}


def test_all_fields_in_either_form_is_one():
    """The word and the list with the word are equivalent."""
    word, listed = (BindingSpec.from_dict({**GOOD, "fields": fields}) for fields in ("__all__", ["__all__"]))
    assert word == listed
    assert word.fields == ("__all__",)
    assert word.all_fields


def test_one_codename_applies_to_all_actions():
    """A single codename applies to each action."""
    spec = BindingSpec.from_dict({**GOOD, "permissions": "app.moderate"})
    assert dict(spec.permissions) == dict.fromkeys(("view", "create", "update", "delete"), "app.moderate")


def test_keeps_an_empty_list_apart_from_none():
    """An empty list of writable fields differs from the default, which is all editable fields."""
    assert BindingSpec.from_dict({**GOOD, "writable": []}).writable == ()
    assert BindingSpec.from_dict({**GOOD, "writable": []}).to_dict()["writable"] == []
    assert BindingSpec.from_dict(GOOD).writable is None
    assert BindingSpec.from_dict({**GOOD, "fields": []}).fields == ()


def test_without_groups_the_stream_is_the_group():
    """A record without groups has one constant group for all rows."""
    [template] = BindingSpec.from_dict(GOOD).group_templates
    assert template.is_constant
    assert template.render({}) == "intval"


@pytest.mark.parametrize(
    ("direction", "outbound", "inbound"),
    [("both", True, True), ("outbound", True, False), ("inbound", False, True)],
)
def test_directions(direction, outbound, inbound):
    """Closing one direction leaves the other open."""
    spec = BindingSpec.from_dict({**GOOD, "direction": direction})
    assert (spec.outbound, spec.inbound) == (outbound, inbound)


def test_refuses_a_bad_record_with_every_problem():
    """The raised error holds the same problems that the validation lists."""
    record = {"stream": "a b", "model": "x", "feilds": []}
    with pytest.raises(ConfigError) as caught:
        BindingSpec.from_dict(record)
    assert list(caught.value.problems) == problems(record)
    assert "Did you mean 'fields'?" in str(caught.value)


def test_config_error_takes_a_sentence():
    """A problem of the whole record can be raised with one sentence."""
    assert ConfigError("Broken.").problems == (Problem("$", "Broken."),)
    with pytest.raises(ValueError, match="at least one problem"):
        ConfigError([])


def test_cannot_be_changed():
    """Neither the spec nor its contents can be edited, not even through the original record."""
    where: dict = {"value": [1, 2]}
    spec = BindingSpec(stream="s", model="a.B", where=where)
    where["value"].append(3)
    assert spec.where["value"] == (1, 2)
    with pytest.raises(FrozenInstanceError):
        spec.stream = "other"  # type: ignore[misc]
    with pytest.raises(TypeError):
        spec.where["value"] = 3  # type: ignore[index]


def test_is_compared_by_content():
    """The order of an object's keys is irrelevant, the order of fields is not."""
    one, two = (BindingSpec("s", "a.B", where=where) for where in ({"a": 1, "b": 2}, {"b": 2, "a": 1}))
    assert one == two
    assert len({one, two}) == 1
    assert BindingSpec("s", "a.B", fields=("a", "b")) != BindingSpec("s", "a.B", fields=("b", "a"))


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda spec: pickle.loads(pickle.dumps(spec))])
def test_can_be_copied_and_pickled(copied):
    """A spec can be passed between threads and processes."""
    spec = BindingSpec.from_dict({**GOOD, "where": {"a": [1]}, "permissions": {"view": True}})
    assert copied(spec) == spec
    assert hash(copied(spec)) == hash(spec)


def test_defaults_name_every_optional_key():
    """The default of each key is defined in one place."""
    assert set(DEFAULTS) == set(KEYS) - {"stream", "model"}
    assert isinstance(DEFAULTS["where"], FrozenMapping)

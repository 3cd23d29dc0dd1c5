"""Group names: legal, readable, and different for different rows."""

import datetime as dt
import decimal
import enum
import itertools
import re
import uuid

import pytest
from hypothesis import Phase, assume, example, given, settings
from hypothesis import strategies as st

from declbind.core import groups
from declbind.core.canonical import canonical_text
from declbind.core.errors import ClientError, ConfigError
from declbind.core.groups import GroupTemplate, ambiguity_problems, diff, match_template

LEGAL = re.compile(r"[A-Za-z0-9._-]{1,99}\Z")
TEMPLATES = [
    "{a}",
    "room-{a}",
    "{a}-room",
    "{a}-{b}",
    "{a}.{b}",
    "{a}{b}",
    "{a}2{b}",
    "{a}e{b}",
    "{a}_{b}",
    "{a}._{b}",
    "x.h{a}",
    "x.{a}.-{b}.y",
    "r-{a}-{b}-{c}",
    "{a}{b}{c}",
    "{a}--{b}",
    "x" * 65 + "{a}",
    "x" * 30 + "{a}-{b}" + "y" * 34,
]
NAMES = ("a", "b", "c")
# Few characters, and those with a meaning in names, so that values nearly collide often.
tricky_characters = st.sampled_from(["-", ".", "_", "2", "d", "e", "h", "a", "x", "ü", "\ud800"])
tricky = st.text(alphabet=tricky_characters, max_size=6)
values = tricky | tricky.map(lambda text: text * 20) | st.text(max_size=40) | st.integers(-10, 10).map(str)


@st.composite
def split_pairs(draw):
    """Draw two triples whose texts are equal when joined, but split at different places."""
    first, middle, last, other = (draw(tricky) for _ in range(4))
    joint = draw(st.sampled_from(["-", ".", "", "2", "e", "_", "._"]))
    return (first, joint.join((middle, last)), other), (joint.join((first, middle)), last, other)


@st.composite
def near_pairs(draw):
    """Draw two triples that differ in one character."""
    before, after, second, third = (draw(tricky) for _ in range(4))
    one, other = draw(tricky_characters), draw(tricky_characters)
    return (before + one + after, second, third), (before + other + after, second, third)


triples = st.tuples(values, values, values)
pairs = st.tuples(triples, triples) | split_pairs() | near_pairs()


def render(text, *given):
    return GroupTemplate.parse(text).render(dict(zip(NAMES, given, strict=False)))


def assert_injective(rendered, template, pair):
    """Check the property: tuples of values that differ are rendered to names that differ."""
    count = template.count("{")
    one, two = (triple[:count] for triple in pair)
    assert one == two or rendered(template, *one) != rendered(template, *two)


@pytest.mark.parametrize("template", TEMPLATES)
@settings(max_examples=200)
@given(pair=pairs)
@example(pair=(("1-2", "3", "x"), ("1", "2-3", "x")))
@example(pair=(("x", "2ey.q", ""), ("x.y", "q", "")))
@example(pair=(("", "", ""), (".-", "", "")))
@example(pair=(("x" * 100, "", ""), ("x" * 101, "", "")))
def test_rendering_is_injective_and_legal(template, pair):
    """Different values never share a group, and every name is legal for channel layers."""
    assert_injective(render, template, pair)
    assert LEGAL.match(render(template, *pair[0]))


def test_rendering_is_injective_over_all_short_values():
    """Each pair of values from all texts of up to three special characters gets a name of its own."""
    texts = ["".join(text) for size in range(4) for text in itertools.product("-._2eü", repeat=size)]
    few = texts[:50]
    for template in ("{a}-{b}", "{a}.{b}", "{a}{b}", "{a}e{b}", "{a}._{b}"):
        seen = {render(template, one, two) for one in texts for two in few}
        assert len(seen) == len(texts) * len(few), template
    assert len({render("{a}", text) for text in texts}) == len(texts)


def with_format(template, *given):
    return template.format(**dict(zip(NAMES, given, strict=False)))


def with_one_replacement(template, *given):
    return with_format(template, *(re.sub(r"[^A-Za-z0-9_-]", "_", text) for text in given))


def with_escapes_but_open_ends(template, *given):
    return with_format(template, *(groups._encode_value(text) for text in given))


def with_a_hash_of_the_joined_values(template, *given):
    return groups._hash_values(["-".join(given)])


def cut_to_length(template, *given):
    return render(template, *given)[:20]


@pytest.mark.parametrize(
    ("broken", "template"),
    [
        (with_format, "{a}-{b}"),
        (with_one_replacement, "{a}"),
        (with_format, "{a}{b}"),
        (with_escapes_but_open_ends, "{a}-{b}"),
        (with_escapes_but_open_ends, "{a}{b}"),
        (with_a_hash_of_the_joined_values, "{a}-{b}"),
        (cut_to_length, "{a}"),
    ],
)
def test_the_property_catches_a_naive_rendering(broken, template):
    """Negative control: the obvious ways to render let values collide, and the property detects it."""

    @settings(max_examples=2000, database=None, derandomize=True, phases=[Phase.generate])
    @given(pair=pairs)
    def check(pair):
        assert_injective(broken, template, pair)

    with pytest.raises(AssertionError):
        check()


@pytest.mark.parametrize(
    ("template", "given", "name"),
    [
        ("room-{a}", [3], "room-3"),
        ("room-{a}", ["3"], "room-3"),
        ("room-{a}", [-3], "room--3"),
        ("ticker-{a}", ["AAPL"], "ticker-AAPL"),
        ("post-{a}", ["hello-world_2"], "post-hello-world_2"),
        ("day-{a}", [dt.date(2024, 1, 31)], "day-2024-01-31"),
        ("{a}-{b}", [1, 2], "1-2"),
        ("{a}-{b}", ["1-2", 3], "1.2d2-3"),
        ("{a}-{b}", [1, "2-3"], "1-2-3"),
        ("{a}.{b}", [1, 2], "1._.2"),
        ("{a}{b}", [1, 2], "1._2"),
        ("x-{a}", [""], "x-.-"),
        ("x-{a}", ["a.b"], "x-a..b"),
        ("x-{a}", ["ü"], "x-.c3.bc"),
        ("x-{a}", [True], "x-true"),
        ("everyone", [], "everyone"),
        (
            "x-{a}",
            [uuid.UUID("0b1f5a52-7a47-4f0e-9d0c-3a1d6b9f8e7c")],
            "x-0b1f5a52-7a47-4f0e-9d0c-3a1d6b9f8e7c",
        ),
    ],
)
def test_ordinary_values_stay_readable(template, given, name):
    """An operator can read the value in the name."""
    assert render(template, *given) == name


def test_long_values_are_hashed_between_the_outer_literals():
    """A shortened name keeps the parts that the static comparison of templates relies on."""
    name = render("room-{a}-x-{b}-end", "v" * 200, "w")
    assert re.fullmatch(r"room-\.h[a-z2-7]{32}-end", name)
    assert render("room-{a}", "v" * 94) == "room-" + "v" * 94
    assert render("room-{a}", "v" * 95).startswith("room-.h")


def test_a_hash_is_not_a_value_that_looks_like_one():
    """Sending the hash of a long value as a value does not lead to its group."""
    name = render("room-{a}", "v" * 200)
    assert render("room-{a}", name.removeprefix("room-")) != name


@pytest.mark.parametrize("given", [(None, 1), (1, None), (None, None)])
def test_null_gives_no_group(given):
    """A row whose field is null is in no group of that template."""
    assert render("{a}-{b}", *given) is None


def test_a_missing_value_raises_key_error():
    """Null is a value; a missing name is an error of the caller."""
    with pytest.raises(KeyError):
        GroupTemplate.parse("x-{a}").render({"b": 1})


class Colour(enum.Enum):
    RED = "red"


class Shade(str, enum.Enum):  # noqa: UP042 - this is how Django's TextChoices behave in str()
    DARK = "dark"


@pytest.mark.parametrize(
    "same",
    [
        [3, "3", 3.0, decimal.Decimal("3"), decimal.Decimal("3.00"), decimal.Decimal("0.3E1")],
        [decimal.Decimal("1.50"), decimal.Decimal("1.5"), 1.5],
        [0, -0.0, decimal.Decimal("-0.00")],
        [decimal.Decimal("1E+3"), 1000],
        [decimal.Decimal("1E+500"), decimal.Decimal("10E+499")],
        [
            dt.datetime(2024, 1, 1, 12, tzinfo=dt.UTC),
            dt.datetime(2024, 1, 1, 13, tzinfo=dt.timezone(dt.timedelta(hours=1))),
        ],
        [Colour.RED, "red"],
        [Shade.DARK, "dark"],
        [b"\x00\xff", memoryview(b"\x00\xff"), bytearray(b"\x00\xff")],
        [{"a": 1, "b": 2}, {"b": 2, "a": 1}],
        [True, "true"],
    ],
)
def test_equal_values_have_one_text(same):
    """A row and a client's params give the same text, however each writes the value."""
    assert len({canonical_text(value) for value in same}) == 1


@pytest.mark.parametrize(
    "different",
    [
        [decimal.Decimal(1) / 3, decimal.Decimal("0.3333333333333333333333333334")],
        [decimal.Decimal("1" * 40), decimal.Decimal("1" * 40 + ".1")],
        [decimal.Decimal("1E+500"), decimal.Decimal("1E+501"), decimal.Decimal("-1E+500")],
        [0.1, 0.2, 0.1 + 0.2, 1e300, 2.0**53, 2.0**53 + 2],
        [dt.datetime(2024, 1, 1), dt.date(2024, 1, 1), dt.time(0, 0)],  # noqa: DTZ001 - USE_TZ may be off
        ["A", "a", "Ä", "A\u0308", " a"],
        [True, False, None],
        [float("inf"), float("-inf"), float("nan")],
    ],
)
def test_different_values_have_different_texts(different):
    """Nothing is rounded, folded or normalised."""
    assert len({canonical_text(value) for value in different}) == len(different)


def test_huge_exponents_cost_nothing():
    """A decimal with a huge exponent, sent by a client, does not become a megabyte of digits."""
    assert len(canonical_text(decimal.Decimal("1E+999999"))) < 20


# Templates
# ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", TEMPLATES)
def test_parts_of_a_template(text):
    """The literals and placeholders, joined again, are the text."""
    template = GroupTemplate.parse(text)
    joined = template.literals[0] + "".join(
        f"{{{name}}}{literal}" for name, literal in zip(template.placeholders, template.literals[1:], strict=True)
    )
    assert joined == text == str(template)
    assert not template.is_constant


@pytest.mark.parametrize("text", ["{a.b}", "{a[0]}", "{a!r}", "{a:>3}", "{}", "{0}", "{{a}}", "{", "}", "a b", "ü", ""])
def test_invalid_templates_are_refused(text):
    """Everything that str.format understands beyond plain names is an error with its place."""
    with pytest.raises(ConfigError) as caught:
        GroupTemplate.parse(text, "$.groups[2]")
    assert {problem.path for problem in caught.value.problems} == {"$.groups[2]"}


@given(st.text(alphabet="{}ab.-! ", max_size=8))
def test_parsing_never_fails_otherwise(text):
    """Any text is either a template or a ConfigError."""
    try:
        template = GroupTemplate.parse(text)
    except ConfigError:
        return
    assert LEGAL.match(template.render(dict.fromkeys(template.placeholders, "v")) or "")


def test_templates_are_equal_by_text():
    """Parsed twice, a template is the same value."""
    assert GroupTemplate.parse("x-{a}") == GroupTemplate.parse("x-{a}")
    assert len({GroupTemplate.parse("x-{a}"), GroupTemplate.parse("x-{a}"), GroupTemplate.parse("x-{b}")}) == 2


literals = st.text(alphabet="ab.-h", max_size=3)


@settings(max_examples=500)
@given(literals, literals, literals, literals, tricky, tricky)
def test_templates_said_to_be_disjoint_never_meet(head, tail, other_head, other_tail, value, other_value):
    """Templates that the static comparison accepts never render the same name."""
    one = GroupTemplate.parse(f"{head}{{a}}{tail}")
    two = GroupTemplate.parse(f"{other_head}{{b}}{other_tail}")
    assume(one.is_disjoint(two))
    for first, second in itertools.product((value, value * 40), (other_value, other_value * 40)):
        assert one.render({"a": first}) != two.render({"b": second})


@settings(max_examples=500)
@given(literals.filter(bool), literals, literals, tricky)
def test_a_name_said_to_be_disjoint_from_a_template_is_none_of_its_names(name, head, tail, value):
    """The same, for a template without placeholders."""
    constant, template = GroupTemplate.parse(name), GroupTemplate.parse(f"{head}{{a}}{tail}")
    made = [template.render({"a": text}) for text in (value, value * 40)]
    for text in made:
        assert not GroupTemplate.parse(text or "x").is_disjoint(template)
    assume(constant.is_disjoint(template))
    assert name not in made


@pytest.mark.parametrize(
    ("one", "two", "disjoint"),
    [
        ("room-{a}", "user-{b}", True),
        ("room-{a}", "room-all", False),
        ("room-{a}", "all-rooms", True),
        ("room-{a}", "room-{a}-{b}", False),
        ("{a}-x", "{b}-y", True),
        ("{a}", "{b}-y", False),
        ("{a}", "all", False),
        ("news", "alerts", True),
        ("articles", "articles-by-{a}", True),
        ("articles", "articles{a}", False),
        ("articles-by-x", "articles-by-{a}", False),
        ("by-rooms", "by-{a}-rooms", True),
        ("room-{a}", "room-", False),
    ],
)
def test_disjoint_templates(one, two, disjoint):
    """Templates are disjoint when what they begin or end with differs."""
    first, second = GroupTemplate.parse(one), GroupTemplate.parse(two)
    assert first.is_disjoint(second) is disjoint
    assert second.is_disjoint(first) is disjoint


def test_ambiguity_names_both_places():
    """The message names the place of the other template."""
    pair = [("$.groups[0]", GroupTemplate.parse("room-{a}")), ("$.groups[1]", GroupTemplate.parse("room-all"))]
    [problem] = ambiguity_problems(pair)
    assert problem.path == "$.groups[1]"
    assert "'room-{a}' at $.groups[0]" in problem.message


def test_params_choose_the_template():
    """The keys of the params are the placeholders of one template, no more and no fewer."""
    templates = [GroupTemplate.parse(text) for text in ("everyone", "room-{room_id}", "seat-{room_id}-{seat}")]
    assert match_template(templates, {}) is templates[0]
    assert match_template(templates, {"room_id": 3}) is templates[1]
    assert match_template(templates, {"seat": 1, "room_id": 3}) is templates[2]


@pytest.mark.parametrize("params", [{"seat": 1}, {"room_id": 1, "x": 2}])
def test_other_params_are_invalid(params):
    """The message tells the client which params exist."""
    templates = [GroupTemplate.parse(text) for text in ("everyone", "room-{room_id}")]
    with pytest.raises(ClientError) as caught:
        match_template(templates, params)
    assert caught.value.code == "invalid"
    assert "Expected params with no keys or 'room_id', got" in caught.value.message


# The group diff
# ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ([], ["a"], [("a", "create")]),
        (["a"], [], [("a", "delete")]),
        (["a"], ["a"], [("a", "update")]),
        (["a", "b"], ["b", "c"], [("a", "delete"), ("b", "update"), ("c", "create")]),
        (["b", "a"], ["d", "c"], [("b", "delete"), ("a", "delete"), ("d", "create"), ("c", "create")]),
        (["a", "a"], ["a", "a"], [("a", "update")]),
        ([], [], []),
    ],
)
def test_diff(old, new, expected):
    """Groups that lose the row come first, those that gain it last."""
    assert diff(old, new) == tuple(expected)


@given(st.lists(st.sampled_from("abcde")), st.lists(st.sampled_from("abcde")))
def test_diff_contains_each_group_once(old, new):
    """Every group of either side appears exactly once, in the order delete, update, create."""
    changes = diff(iter(old), iter(new))
    assert sorted(group for group, _ in changes) == sorted({*old, *new})
    order = ["delete", "update", "create"]
    assert [action for _, action in changes] == sorted((action for _, action in changes), key=order.index)

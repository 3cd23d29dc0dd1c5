"""The registry: bindings in force, excluded bindings and the reasons, and which of two registries is newer."""

from dataclasses import dataclass, replace

import pytest

from declbind.core.errors import Problem
from declbind.core.registry import Entry, Registry


@dataclass(frozen=True)
class Binding:
    """The part of a binding that a registry uses."""

    stream: str
    model: str = "app.note"
    enabled: bool = True
    meaning: str = ""

    def concrete_label(self):
        return self.model

    def fingerprint(self):
        return f"{self.model} {self.meaning}"


def entry(stream, where="here", *problems, **values):
    return Entry(stream, where, "code", Binding(stream, **values), problems)


def not_built(stream, *problems) -> Entry[Binding]:
    return Entry(stream, "x.json", "file", None, problems)


def test_bindings_are_found_by_stream_and_by_model():
    """Several bindings of one model are kept, in the order of the sources."""
    registry = Registry((entry("a"), entry("b", model="app.room"), entry("c")))
    assert list(registry.by_stream) == ["a", "b", "c"]
    assert [binding.stream for binding in registry.by_model["app.note"]] == ["a", "c"]
    assert [binding.stream for binding in registry.by_model["app.room"]] == ["b"]


def test_empty_registry_is_a_registry():
    """A process without any configuration has a registry too."""
    registry: Registry[Binding] = Registry()
    assert (dict(registry.by_stream), dict(registry.by_model), registry.problems) == ({}, {}, ())
    assert len(registry.digest) == 16


@pytest.mark.parametrize(
    "left_out",
    [entry("b", enabled=False), entry("b", "here", Problem("$", "bad")), not_built("b")],
    ids=["disabled", "invalid", "not built"],
)
def test_binding_not_in_force_is_kept_as_an_entry_only(left_out):
    """A disabled or invalid binding serves nobody, is shown to operators, and stops no other binding."""
    registry = Registry((entry("a"), left_out))
    assert list(registry.by_stream) == ["a"]
    assert [binding.stream for binding in registry.by_model["app.note"]] == ["a"]
    assert registry.entry("b") == left_out
    assert registry.entry("c") is None


def test_stream_defined_twice_is_refused_on_both_with_the_other_place():
    """Neither definition wins: each entry names the place of the other."""
    registry = Registry((entry("a", "a.json"), entry("b", "b.json"), entry("a", "app.bindings.A")))
    assert list(registry.by_stream) == ["b"]
    assert [(found.where, problem.path, problem.message) for found, problem in registry.problems] == [
        (
            "a.json",
            "$.stream",
            "Binding 'a' is defined twice: in a.json and in app.bindings.A. Neither is in force; rename or remove one.",
        ),
        (
            "app.bindings.A",
            "$.stream",
            "Binding 'a' is defined twice: in app.bindings.A and in a.json. Neither is in force; rename or remove one.",
        ),
    ]


def test_stream_defined_three_times_names_both_others():
    """The message names every place to check."""
    registry = Registry(tuple(entry("a", where) for where in ("one", "two", "three")))
    assert "in two and in one, three" in registry.entries[1].problems[0].message


@pytest.mark.parametrize("second", [entry("a", "y", enabled=False), entry("a", "y", Problem("$", "bad"))])
def test_disabled_or_invalid_second_definition_counts(second):
    """The registry does not guess which of two definitions is meant."""
    registry = Registry((entry("a", "x"), second))
    assert "a" not in registry.by_stream
    assert registry.entries[1].problems[: len(second.problems)] == second.problems
    assert len(registry.entries[1].problems) == len(second.problems) + 1


def test_entries_without_a_stream_do_not_meet():
    """Two unreadable records both have no stream and are still different entries."""
    unreadable = not_built("", Problem("$", "bad"))
    registry = Registry((unreadable, replace(unreadable, where="y.json")))
    assert [problem.message for _, problem in registry.problems] == ["bad", "bad"]


def test_registry_cannot_be_edited():
    """A registry is replaced, not edited."""
    registry = Registry((entry("a"),))
    for mapping in (registry.by_stream, registry.by_model):
        with pytest.raises(TypeError):
            mapping["b"] = None  # type: ignore[index]
    with pytest.raises(AttributeError):
        registry.version = 5  # type: ignore[misc]


@pytest.mark.parametrize(
    ("generation", "version", "expected"),
    [("g", 4, False), ("g", 5, True), ("g", 6, True), ("other", 1, True)],
)
def test_older_registry_never_replaces_a_newer_one(generation, version, expected):
    """Versions are compared within one epoch; another epoch, as after a restored database, always replaces."""
    current: Registry[Binding] = Registry((), "g", 5)
    other: Registry[Binding] = Registry((), generation, version)
    assert other.may_replace(current) is expected


def test_digest_is_equal_if_two_processes_run_the_same():
    """The digest depends on the meaning of the bindings in force, not on their order or the version."""
    one = Registry((entry("a"), entry("b")), "g", 1)
    assert one.digest == Registry((entry("b"), entry("a")), "g", 2).digest
    assert one.digest == Registry((entry("a"), entry("b"), entry("c", enabled=False))).digest
    others = [
        Registry((entry("a"),)),
        Registry((entry("a"), entry("c"))),
        Registry((entry("a"), entry("b", meaning="x"))),
    ]
    assert len({registry.digest for registry in (one, *others)}) == 4

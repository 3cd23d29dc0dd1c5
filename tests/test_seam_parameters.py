"""The parameters of the methods that capture wraps: those that declbind accepts, and those that it reports."""

import logging
from types import FunctionType

import pytest
from django.db.models import QuerySet

from declbind.console import unseen
from declbind.outbound import capture, hooks, seam_checks
from declbind.testing import override_bindings
from tests.captured_events import KEEPERS, watching
from tests.test_seams import HOOKS, TRUCKS, WRITTEN, bare, write_in_each_way, written
from tests.zoo.models import Keeper, Truck

pytestmark = pytest.mark.django_db


def more_keywords(method):
    def newer(self, *args, durable=False, **kwargs):
        assert durable is True
        return method(self, *args, **kwargs)

    return newer


def pass_more(method):
    """Wrap a hook so that it is called as a newer Django would call it."""
    return lambda self, *args, **kwargs: method(self, *args, durable=True, **kwargs)


@pytest.mark.parametrize("name", [name for name in HOOKS if name != "create_forward_many_to_many_manager"])
def test_a_new_keyword_is_passed_on(name, monkeypatch):
    """The hook neither fails nor drops it, and still captures."""
    hook = HOOKS[name]
    monkeypatch.setattr(hook.owner, name, more_keywords(bare(hook)))
    capture.install()
    monkeypatch.setattr(hook.owner, name, pass_more(getattr(hook.owner, name)))
    assert list(capture.find_faults()) == []
    truck = Truck(plate="A", load=1)
    with watching(KEEPERS, TRUCKS) as events:
        write_in_each_way()
        truck.save()
        truck.plate = "B"
        truck.save()
    assert written(events) == [*WRITTEN, "create", "delete", "create"]


#: The values that Django passes when a parameter is left out.
DEFAULTS = {"update_fields": None, "unique_fields": None, "batch_size": None}


@pytest.mark.parametrize("name", ["_save_table", "_raw_delete", "bulk_update", "bulk_create"])
def test_a_new_positional_argument_is_passed_on(name, monkeypatch):
    """It is passed after the known ones."""
    hook, added = HOOKS[name], []

    def newer(self, *args, **kwargs):
        added.append(args[-1])
        return method(self, *args[:-1], **kwargs)

    def call(self, *args, **kwargs):
        missing = (hook.seam.parameters or ())[len(args) :]
        return captured(self, *args, *(kwargs.get(key, DEFAULTS.get(key, False)) for key in missing), "new")

    method = bare(hook)
    monkeypatch.setattr(hook.owner, name, newer)
    capture.install()
    captured = getattr(hook.owner, name)
    monkeypatch.setattr(hook.owner, name, call)
    with watching(KEEPERS) as events:
        write_in_each_way()
    assert written(events) == WRITTEN
    assert set(added) == {"new"}


def test_a_method_of_another_package_may_take_keywords_of_its_own(monkeypatch):
    """``update`` takes its columns as keywords; other keywords are passed on."""
    told = []

    def update(self, *, reason="", **kwargs):
        told.append(reason)
        return original(self, **kwargs)

    original = bare(HOOKS["update"])
    monkeypatch.setattr(QuerySet, "update", update)
    capture.install()
    Keeper.objects.create(name="Ann")
    with watching(KEEPERS) as events:
        values = {"retired": True, "reason": "spring"}
        assert Keeper.objects.update(**values) == 1
    assert told == ["spring"]
    assert written(events) == ["update"]


OTHER_METHODS = {
    "_save_parents": lambda self, writer: False,
    "_save_table": lambda self, writer: False,
    "bulk_update": lambda self, rows: 0,
    "bulk_create": lambda self, rows: rows,
    "_raw_delete": lambda self: 0,
}


@pytest.mark.parametrize("name", OTHER_METHODS)
def test_a_method_with_other_parameters_is_left_alone_and_reported(name, monkeypatch, caplog):
    """The meaning of a call would be unknown, so no hook is installed."""
    hook = HOOKS[name]
    monkeypatch.setattr(hook.owner, name, OTHER_METHODS[name])
    with caplog.at_level(logging.ERROR, "declbind"):
        capture.install()
    assert getattr(hook.owner, name) is OTHER_METHODS[name]
    [fault] = capture.find_faults()
    assert fault.problem.startswith(
        f"{hook.seam} was expected to take ({', '.join(hook.seam.parameters or ())}), and takes "
    )
    assert [record.getMessage() for record in caplog.records] == [f"{fault.text} {fault.action}"]
    with override_bindings(TRUCKS):
        assert any(gap.text == fault.text for _, gap in unseen.faulty_streams("default"))


def of_django(function):
    """Return a function as if it belonged to a module of Django."""
    return FunctionType(function.__code__, {"__name__": "django.db.models.base"}, function.__name__)


ACCEPTED = [
    lambda self, one, two: None,
    lambda self, one, two, three=None, *, four=None: None,
    lambda self, one, *, two: None,
    lambda one, two: None,
    lambda self, *args, **kwargs: None,
    lambda self, other, **kwargs: None,
    of_django(lambda self, one, two, **kwargs: None),
    max,
]
REFUSED = [
    lambda self, two, one: None,
    lambda self, new, one, two: None,
    lambda self, one: None,
    lambda self, one, *, new: None,
    of_django(lambda self, other, **kwargs: None),
    "no function",
]


def test_the_parameters_that_are_accepted():
    """The required parameters come first, in their order, or can be given by name."""
    assert [seam_checks.describe_other_parameters(function, ("one", "two")) for function in ACCEPTED] == [""] * len(
        ACCEPTED
    )
    assert all(seam_checks.describe_other_parameters(function, ("one", "two")) for function in REFUSED)


CALLS = {
    "_save_table": lambda self: self._save_table(writer=1),
    "_save_parents": lambda self: self._save_parents(writer=1),
    "bulk_update": lambda self: type(self).objects.bulk_update(writer=1),
    "bulk_create": lambda self: type(self).objects.bulk_create(writer=1),
    "_raw_delete": lambda self: type(self)._base_manager.all()._raw_delete(writer=1),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_call_with_unknown_arguments_is_passed_on_and_reported(name, monkeypatch):
    """A package that accepts any arguments may be called in ways that declbind does not know."""
    hook = HOOKS[name]
    monkeypatch.setattr(hooks, "_unread", {})
    monkeypatch.setattr(hook.owner, name, lambda *args, **kwargs: kwargs)
    capture.install()
    with override_bindings(KEEPERS):
        assert CALLS[name](Keeper(name="Ann")) == {"writer": 1}
        [fault] = capture.find_faults()
    assert fault.text == f"{hook.seam} was called with arguments that declbind does not know. {hook.seam.effect}"

"""The methods that capture wraps: beside other packages that wrap them too, and after a change of Django."""

import functools
import logging
import subprocess
import sys
from types import FunctionType, SimpleNamespace
from typing import Any

import pytest
from django.db import models
from django.db.models import QuerySet

from declbind import checks
from declbind.console import doctor, unseen
from declbind.live import sending
from declbind.outbound import capture, hooks, seam_checks, seams
from declbind.outbound.lists import forget_list_managers
from declbind.outbound.seam_checks import Seam
from declbind.outbound.triggers import upkeep
from declbind.registry import get_registry
from declbind.testing import override_bindings
from tests.servers import ROOT
from tests.test_capture import FED, KEEPERS, actions, watching
from tests.zoo.models import Animal, Food, Keeper, Truck

pytestmark = pytest.mark.django_db

TRUCKS = {"stream": "trucks", "model": "zoo.Truck", "fields": ["plate", "load"], "groups": ["plate-{plate}"]}
HOOKS = {hook.name: hook for hook in capture.HOOKS}


# What other packages do to a method ---------------------------------------------------------------------------


def with_wraps(method):
    @functools.wraps(method)
    def traced(*args, **kwargs):
        return method(*args, **kwargs)

    return traced


def without_wraps(method):
    return lambda *args, **kwargs: method(*args, **kwargs)


def by_a_default(method):
    def traced(*args, _call=method, **kwargs):
        return _call(*args, **kwargs)

    return traced


class Traced:
    """A descriptor that keeps the method in an attribute, as the wrapt package does."""

    def __init__(self, method):
        self.method = method

    def __call__(self, *args, **kwargs):
        return self.method(*args, **kwargs)

    def __get__(self, instance, owner):
        return self if instance is None else functools.partial(self, instance)


def twice(method):
    return without_wraps(with_wraps(Traced(method)))


_kept = SimpleNamespace()


def by_a_global(method):
    _kept.method = method
    return lambda *args, **kwargs: _kept.method(*args, **kwargs)


WRAPPERS = [with_wraps, without_wraps, by_a_default, Traced, twice, by_a_global]


def bare(hook):
    return getattr(hook.owner, hook.name).__wrapped__


def write_in_each_way():
    """Write by each hooked method, and return the minimum number of events."""
    keeper = Keeper(name="Ann")
    keeper.save()
    keeper.name = "Bea"
    keeper.save()
    Keeper.objects.update(retired=True)
    Keeper.objects.bulk_update([keeper], ["name"])
    Keeper.objects.bulk_create([Keeper(name="Cid")])
    Keeper.objects.filter(name="Cid")._raw_delete("default")
    keeper.delete()


WRITTEN = ["create", "update", "update", "update", "create", "delete", "delete"]


def written(events):
    return [action for _, _, found in actions(events) for action in found]


def test_nothing_is_reported_of_the_installed_packages():
    """Negative control: each name that declbind needs exists."""
    assert list(capture.find_faults()) == []
    assert checks.check_seams() == []
    with override_bindings(KEEPERS, FED, TRUCKS):
        assert not list(unseen.faulty_streams("default"))


@pytest.mark.parametrize("wrap", WRAPPERS)
@pytest.mark.parametrize("name", HOOKS)
def test_a_method_may_be_wrapped_before(name, wrap, monkeypatch):
    """The hook is installed around the wrapper, whether or not it has ``__wrapped__``."""
    hook = HOOKS[name]
    monkeypatch.setattr(hook.owner, name, wrap(bare(hook)))
    assert not hooks.is_installed(hook.seam)
    capture.install()
    assert hooks.is_installed(hook.seam)
    with watching(KEEPERS) as events:
        write_in_each_way()
    assert written(events) == WRITTEN


@pytest.mark.parametrize("wrap", WRAPPERS)
@pytest.mark.parametrize("name", HOOKS)
def test_a_method_may_be_wrapped_afterwards(name, wrap, monkeypatch):
    """The hook is found behind the wrapper, and not installed a second time."""
    hook = HOOKS[name]
    wrapped = wrap(getattr(hook.owner, name))
    monkeypatch.setattr(hook.owner, name, wrapped)
    capture.install()
    assert getattr(hook.owner, name) is wrapped
    assert list(capture.find_faults()) == []
    with watching(KEEPERS) as events:
        write_in_each_way()
    assert written(events) == WRITTEN


def replacement(method):
    @functools.wraps(method)
    def polite(*args, **kwargs):
        return inner(*args, **kwargs)

    inner = getattr(method, "__wrapped__", method)
    # Like a replacement that is called like the method: it has the hook's marker too, copied with the attributes.
    function: Any = polite
    function.__code__ = function.__code__.replace(co_name=method.__code__.co_name)
    return function


@pytest.mark.parametrize(
    "replace", [replacement, lambda method: method.__wrapped__, lambda method: lambda *args, **kwargs: None]
)
@pytest.mark.parametrize("name", HOOKS)
def test_a_method_that_was_replaced_afterwards_is_reported(name, replace, monkeypatch):
    """The system check, the doctor, and each affected binding report it; ``__wrapped__`` alone proves nothing."""
    hook = HOOKS[name]
    monkeypatch.setattr(hook.owner, name, replace(getattr(hook.owner, name)))
    [message] = checks.check_seams()
    assert message.id == "declbind.W015"
    assert message.msg.startswith(f"declbind's wrapper of {hook.seam} was replaced by ")
    assert message.msg.endswith(hook.seam.effect)
    with override_bindings(KEEPERS, FED, TRUCKS):
        streams = {stream for stream, gap in unseen.faulty_streams("default") if gap.text == message.msg}
        assert streams == {stream for stream, gaps in unseen.load_faults("default").items() if gaps}
    expected = {"_save_parents": {"trucks"}, "create_forward_many_to_many_manager": {"fed"}}
    assert streams == expected.get(name, {"keepers", "fed", "trucks"})
    found = [finding for finding in doctor._capture("default") if finding.level == "bad"]
    assert (message.msg, message.hint) in [(finding.meaning, finding.action) for finding in found]


@pytest.mark.needs_triggers
@pytest.mark.django_db(transaction=True)
def test_a_binding_with_triggers_does_without_hooks(monkeypatch):
    """Its tables are reported by their triggers."""
    monkeypatch.setattr(QuerySet, "update", bare(HOOKS["update"]))
    with override_bindings({**KEEPERS, "capture": "triggers"}):
        assert unseen.find_gaps(get_registry().by_stream["keepers"], "default")[0].is_fault
        upkeep.install("default")
        try:
            gaps = unseen.find_gaps(get_registry().by_stream["keepers"], "default")
            assert not [gap for gap in gaps if gap.is_fault]
        finally:
            upkeep.remove("default")


# A Django that is another one --------------------------------------------------------------------------------


def more_keywords(method):
    def newer(self, *args, durable=False, **kwargs):
        assert durable is True
        return method(self, *args, **kwargs)

    return newer


def pass_more(method):
    """Wrap a hook so that it is called as by a newer Django."""
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
    """The meaning of a call would be unknown."""
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


@pytest.mark.parametrize("name", HOOKS)
def test_a_missing_method_is_reported(name, monkeypatch):
    """The process starts without its hook."""
    hook = HOOKS[name]
    monkeypatch.delattr(hook.owner, name)
    capture.install()
    assert not hasattr(hook.owner, name)
    assert [fault.problem.partition(" in ")[0] for fault in capture.find_faults()] == [f"{hook.seam} does not exist"]


@pytest.mark.parametrize("name", HOOKS)
def test_without_a_name_that_capture_uses_no_hook_is_installed(name, monkeypatch):
    """A hook that cannot do its work would make the write fail."""
    hook = HOOKS[name]
    method = bare(hook)
    monkeypatch.setattr(hook.owner, name, method)
    monkeypatch.delattr(models.Model, "_get_pk_val")
    capture.install()
    assert getattr(hook.owner, name) is method
    [fault] = capture.find_faults()
    assert fault.text.startswith("django.db.models.base.Model has no _get_pk_val in django ")
    assert fault.text.endswith("No write is captured.")


@pytest.mark.parametrize("seam", seams.NEEDED, ids=str)
def test_each_name_that_capture_uses_is_checked(seam, monkeypatch):
    """A missing attribute is detected, for each of them."""
    assert seam.find_problem() == ""
    for name in seam.attributes:
        monkeypatch.setattr(seam_checks, "_has", lambda made, path, name=name: path != name)
        assert seam.find_problem().startswith(f"{seam} has no {name} in ")


def test_a_class_that_is_made_in_another_way_is_reported(monkeypatch):
    """The attributes of its instances are then unknown."""
    collector = next(seam for seam in seams.NEEDED if seam.name == "Collector")
    monkeypatch.setattr(collector.find_owner(), "Collector", type("Collector", (), {}))
    assert collector.find_problem().startswith(f"{collector} has no using, data, fast_deletes, field_updates in ")


CALLS = {
    "_save_table": lambda self: self._save_table(writer=1),
    "_save_parents": lambda self: self._save_parents(writer=1),
    "bulk_update": lambda self: type(self).objects.bulk_update(writer=1),
    "bulk_create": lambda self: type(self).objects.bulk_create(writer=1),
    "_raw_delete": lambda self: type(self)._base_manager.all()._raw_delete(writer=1),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_call_that_cannot_be_read_goes_through_and_is_reported(name, monkeypatch):
    """A package that accepts any arguments may be called in ways that declbind does not know."""
    hook = HOOKS[name]
    monkeypatch.setattr(hooks, "_unread", {})
    monkeypatch.setattr(hook.owner, name, lambda *args, **kwargs: kwargs)
    capture.install()
    with override_bindings(KEEPERS):
        assert CALLS[name](Keeper(name="Ann")) == {"writer": 1}
        [fault] = capture.find_faults()
    assert fault.text == f"{hook.seam} was called with arguments that declbind does not know. {hook.seam.effect}"


def test_a_list_manager_without_set_is_reported(monkeypatch):
    """The manager is used without a hook."""
    hook = HOOKS["create_forward_many_to_many_manager"]
    monkeypatch.setattr(hooks, "_unread", {})
    monkeypatch.setattr(hook.owner, hook.name, lambda *args, **kwargs: models.Manager)
    capture.install()
    assert getattr(hook.owner, hook.name)(models.Manager, None, reverse=False) is models.Manager
    assert [fault.seam for fault in capture.find_faults()] == [hook.seam]


def test_a_package_that_is_not_in_use_is_not_checked(monkeypatch):
    """Checking its names would import it."""
    gone = Seam("declbind_no_such_package.deep", "Thing", "Nothing works.")
    assert gone.find_problem() == ""
    monkeypatch.setitem(sys.modules, "declbind_no_such_package.deep", SimpleNamespace())
    assert "does not exist" in gone.find_problem()


def test_the_names_of_optional_packages_are_as_expected():
    """In a process of its own, because importing daphne installs a reactor."""
    modules = sorted({seam.module for seam in seams.SEAMS})
    code = f"""
import importlib
import django
import daphne.server
django.setup()
for name in {modules!r}:
    importlib.import_module(name)
from declbind.outbound.capture import find_faults
assert [fault.text for fault in find_faults()] == []
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)


def test_frames_pass_a_session_wrapper_of_another_kind(monkeypatch):
    """Without the names of Channels that the shortcut needs, frames pass through the middleware."""

    class Wrapper:
        def send(self):
            """Stand in for the method that Channels passes on."""

    send: Any = Wrapper().send
    monkeypatch.setattr(sending, "SESSION_WRAPPER", Wrapper)
    assert sending.without_session(send) is send


def test_a_list_manager_that_was_made_before_the_start_is_captured(monkeypatch):
    """Django caches the manager class of a list, and another app may have used it in ``ready()``."""
    hook = HOOKS["create_forward_many_to_many_manager"]
    forget_list_managers()
    with monkeypatch.context() as context:
        context.setattr(hook.owner, hook.name, bare(hook))
        assert len(set_of_a_list("Owl")) == 2
    capture.install()
    assert set_of_a_list("Elk") == ["update"]


def set_of_a_list(name):
    """Replace the contents of a list, and return the actions of the events."""
    animal = Animal.objects.create(name=name)
    foods = [Food.objects.create(name=f"{name} {number}") for number in range(2)]
    animal.foods.set(foods[:1])
    with watching(FED) as events:
        animal.foods.set(foods[1:])
    return written(events)

"""The methods that capture wraps: beside other packages that wrap them too, and after a change of Django."""

import functools
import subprocess
import sys
from types import SimpleNamespace
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
from tests.captured_events import FED, KEEPERS, actions, watching
from tests.servers import ROOT
from tests.zoo.models import Animal, Food, Keeper

pytestmark = pytest.mark.django_db

TRUCKS = {"stream": "trucks", "model": "zoo.Truck", "fields": ["plate", "load"], "groups": ["plate-{plate}"]}
HOOKS = {hook.name: hook for hook in capture.HOOKS}


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


def test_nothing_is_reported_for_the_installed_packages():
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
def test_a_binding_with_triggers_needs_no_hooks(monkeypatch):
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


@pytest.mark.parametrize("name", HOOKS)
def test_a_missing_method_is_reported(name, monkeypatch):
    """The process starts without its hook."""
    hook = HOOKS[name]
    monkeypatch.delattr(hook.owner, name)
    capture.install()
    assert not hasattr(hook.owner, name)
    assert [fault.problem.partition(" in ")[0] for fault in capture.find_faults()] == [f"{hook.seam} does not exist"]


@pytest.mark.parametrize("name", HOOKS)
def test_no_hook_is_installed_if_a_name_that_it_uses_is_missing(name, monkeypatch):
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
    """For each name, a missing attribute is detected."""
    assert seam.find_problem() == ""
    for name in seam.attributes:
        monkeypatch.setattr(seam_checks, "_has", lambda made, path, name=name: path != name)
        assert seam.find_problem().startswith(f"{seam} has no {name} in ")


def test_a_class_that_is_built_in_another_way_is_reported(monkeypatch):
    """The attributes of its instances are then unknown."""
    collector = next(seam for seam in seams.NEEDED if seam.name == "Collector")
    monkeypatch.setattr(collector.find_owner(), "Collector", type("Collector", (), {}))
    assert collector.find_problem().startswith(f"{collector} has no using, data, fast_deletes, field_updates in ")


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
    """The names are checked in a process of their own, because importing daphne installs a reactor."""
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

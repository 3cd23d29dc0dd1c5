"""Binding classes in any module: which are in force, which are reported, and which do not count."""

import importlib
import sys
import textwrap
import types

import pytest
from django.core.checks import Warning as CheckWarning

from declbind import WebsocketBinding, WebsocketDemultiplexer, checks, signals
from declbind.registry import check_version, current_registry, get_registry, refresh
from declbind.sources import code
from declbind.testing import Client, capture_events, override_bindings
from tests.live import code_of
from tests.zoo.models import Keeper

CLASS = """
from declbind import WebsocketBinding

class KeeperBinding(WebsocketBinding):
    model = "zoo.Keeper"
    stream = "scattered"
    fields = ["name"]
"""


@pytest.fixture
def define():
    """Return a function that executes the text of a module and adds it to the imported modules."""
    names = []

    def define(text, name="shop.models"):
        module = types.ModuleType(name)
        sys.modules[name] = module
        names.append(name)
        exec(textwrap.dedent(text), vars(module))
        return module

    yield define
    for name in names:
        sys.modules.pop(name, None)
    refresh(force=True)


@pytest.fixture
def module_folder(tmp_path, monkeypatch):
    """Return a folder from which modules can be imported and reloaded."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("reloaded_shop")]:
        del sys.modules[name]
    refresh(force=True)


def streams():
    return set(refresh(force=True).by_stream)


def scattered(name, module="shop.models", stream="scattered"):
    return CheckWarning(
        f"{module}.{name}: binding {stream!r} is defined outside of the bindings modules of the installed apps. "
        f"Processes that do not import {module} do not know it: their writes are not captured for it, and their "
        "sockets do not serve it.",
        hint="Move the class into the module bindings.py of an installed app, or import it there.",
        id="declbind.W016",
    )


def unbound(name, reason, module="shop.models"):
    return CheckWarning(
        f"{module}.{name} is not in force, because {reason}.",
        hint="A binding is a class with a model and a stream at the top of a module. Use bindings.py of an installed "
        "app.",
        id="declbind.W017",
    )


pytestmark = pytest.mark.django_db


@pytest.fixture
def app(tmp_path, monkeypatch, settings):
    """Return the folder of an installed app."""
    folder = tmp_path / "unread_shop"
    folder.mkdir()
    (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, "unread_shop"]
    yield folder
    for name in [name for name in sys.modules if name.startswith("unread_shop")]:
        del sys.modules[name]


def unimported(module, name="KeeperBinding", named="binding 'scattered'", end=""):
    return CheckWarning(
        f"{module}.{name}: {named} is defined outside of the bindings modules of the installed apps, and this process "
        f"has not imported {module}. Processes that do not import it do not know the binding: their writes are not "
        f"captured for it, and their sockets do not serve it.{end}",
        hint="Move the class into the module bindings.py of an installed app, or import it there.",
        id="declbind.W016",
    )


@pytest.mark.parametrize("file", ["binding.py", "consumers.py", "live/streams.py"])
def test_a_class_in_a_file_that_nobody_imports_is_reported(app, file):
    """The file is read and not executed."""
    path = app / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"{CLASS}\nraise SystemExit('imported')\n")
    module = f"unread_shop.{file.removesuffix('.py').replace('/', '.')}"
    assert checks.check_classes() == [unimported(module)]
    assert module not in sys.modules


VARIANTS = {
    "import declbind\nclass A(declbind.WebsocketBinding):\n    model, stream = 'zoo.Keeper', 'a'": "a binding",
    "from declbind import WebsocketBinding as W\nSTREAM = 'a'\nclass A(W):\n    model = 'zoo.Keeper'\n"
    "    stream = STREAM": "a binding",
    "from declbind.bindings import Binding\nclass A(Binding):\n    model = 'zoo.Keeper'\n"
    "    stream: str = 'a'": "binding 'a'",
}


@pytest.mark.parametrize("text", VARIANTS)
def test_each_way_to_write_a_class_is_recognized(app, text):
    """A class without fields is reported with that problem."""
    (app / "binding.py").write_text(text)
    end = " It has neither 'fields' nor 'exclude', and would be left out."
    assert checks.check_classes() == [unimported("unread_shop.binding", "A", VARIANTS[text], end)]


def test_other_classes_of_an_unimported_file_are_not_reported(app):
    """These are bases, classes of other packages, tests, and files that are imported or not Python."""
    (app / "base.py").write_text("from declbind import Binding\nclass Base(Binding):\n    fields = ['name']\n")
    (app / "other.py").write_text(
        "# not declbind's\nfrom other import Binding\nclass A(Binding):\n    model = stream = 1\n"
    )
    (app / "test_live.py").write_text(CLASS)
    (app / "broken.py").write_text(f"{CLASS}\n(")
    (app / "child.py").write_text(
        CLASS.replace("KeeperBinding", "Parent").replace('stream = "scattered"', "")
        + "class Child(Parent):\n    stream = 'child'\n"
    )
    (app / "streams.py").write_text(CLASS)
    importlib.import_module("unread_shop.streams")
    assert checks.check_classes() == [
        scattered("KeeperBinding", "unread_shop.streams"),
        unimported("unread_shop.child", "Child", "binding 'child'"),
    ]


def test_the_classes_of_bindings_modules_are_not_reported():
    """Negative control."""
    assert "intval" in current_registry().by_stream
    assert checks.check_classes() == []


@pytest.mark.parametrize(
    "module", ["shop.models", "shop.binding", "shop.consumers", "shop.live.streams", "__mp_main__"]
)
def test_a_class_of_any_imported_module_is_in_force_and_reported(define, module):
    """Channels 1.x allowed this: its documentation had bindings in models.py, binding.py and consumers.py."""
    define(CLASS, module)
    with capture_events() as events:
        assert "scattered" in streams()
        Keeper.objects.create(name="Ann")
    assert [event.stream for event in events] == ["scattered"]
    assert checks.check_classes() == [scattered("KeeperBinding", module)]
    assert checks.check_bindings() == []


def test_a_class_that_is_imported_after_the_start_is_in_force(define):
    """asgi.py imports the consumers when the apps are ready, and nothing requests a new registry."""
    check_version()
    assert "scattered" not in get_registry().by_stream
    with capture_events() as events:
        define(CLASS, "shop.consumers")
        Keeper.objects.create(name="Ann")
    assert [event.stream for event in events] == ["scattered"]


def test_a_class_is_found_once_its_module_has_it(define, monkeypatch):
    """The first search happens while the class is being defined, and is repeated."""
    seen = []

    def look(sender, **kwargs):
        seen.append(code.has_new_classes())

    signals.binding_defined.connect(look)
    try:
        define(CLASS)
    finally:
        signals.binding_defined.disconnect(look)
    assert seen == [False]
    assert code.has_new_classes()
    refresh(force=True)
    assert not code.has_new_classes()


def test_the_search_for_a_class_without_a_module_ends(monkeypatch):
    """The search is repeated a limited number of times."""

    class Local(WebsocketBinding):
        model, stream, fields = Keeper, "local", ("name",)

    assert Local in code._defined
    monkeypatch.setattr(code, "IMPORT_SECONDS", -1.0)
    assert not code.has_new_classes()
    assert Local not in code._defined


def test_a_class_without_fields_is_reported_wherever_it_is(define):
    """It is left out, like one in bindings.py."""
    define(CLASS.replace('fields = ["name"]', ""))
    assert "scattered" not in streams()
    [message] = checks.check_bindings()
    assert message.id == "declbind.W001"
    assert message.msg == (
        "shop.models.KeeperBinding: $: shop.models.KeeperBinding: expected 'fields' or 'exclude', got neither."
    )


def test_abstract_bases_and_their_subclasses(define):
    """A class without model and stream is a base. A subclass that keeps its parent's stream replaces the parent."""
    define(
        CLASS
        + """
class Base(WebsocketBinding):
    fields = ["name"]

class Child(KeeperBinding):
    fields = ["name", "retired"]

class Sibling(Base):
    model = "zoo.Keeper"
    stream = "sibling"
"""
    )
    assert {"scattered", "sibling"} <= streams()
    assert current_registry().by_stream["scattered"].__name__ == "Child"
    assert [problem for _, problem in current_registry().problems] == []
    assert checks.check_classes() == [
        scattered("KeeperBinding"),
        scattered("Child"),
        scattered("Sibling", stream="sibling"),
    ]


def test_a_subclass_with_an_own_stream_is_an_additional_binding(define):
    """The parent stays in force."""
    define(
        CLASS
        + """
class Other(KeeperBinding):
    stream = "other"
"""
    )
    assert {"scattered", "other"} <= streams()


def test_a_class_inside_another_class_counts(define):
    define(
        """
        from declbind import WebsocketBinding

        class Shop:
            class Binding(WebsocketBinding):
                model = "zoo.Keeper"
                stream = "scattered"
                fields = ["name"]
        """
    )
    assert "scattered" in streams()


FACTORY = """
from declbind import WebsocketBinding

def make(name):
    class Made(WebsocketBinding):
        model = "zoo.Keeper"
        stream = name
        fields = ["name"]
    return Made
"""


def test_a_class_made_by_a_function_counts_if_a_module_contains_it(define):
    """Otherwise it is reported as long as something refers to it."""
    factory = define(FACTORY, "shop.factory")
    define("from shop.factory import make\nKept = make('kept')", "shop.models")
    lost = factory.make("lost")
    assert {"kept"} == streams() & {"kept", "lost"}
    assert checks.check_classes() == [
        scattered("make.<locals>.Made", "shop.factory", "kept"),
        unbound("make.<locals>.Made", "it is defined inside a function, and no module has it", "shop.factory"),
    ]
    del lost
    assert checks.check_classes() == [scattered("make.<locals>.Made", "shop.factory", "kept")]


def test_a_class_that_a_test_puts_in_force_is_not_reported(define):
    factory = define(FACTORY, "shop.factory")
    made = factory.make("made")
    with override_bindings(made):
        assert checks.check_classes() == []
    assert checks.check_classes() == []


@pytest.mark.parametrize(
    ("line", "reason"),
    [("model = 'zoo.Keeper'", "it has a model and no stream"), ("stream = 'lost'", "it has a stream and no model")],
)
def test_an_incomplete_binding_is_reported(define, line, reason):
    """It is not reported if it is the base of other classes."""
    module = define(f"from declbind import WebsocketBinding\nclass Half(WebsocketBinding):\n    {line}\n")
    assert checks.check_classes() == [unbound("Half", reason)]
    whole = type("Whole", (module.Half,), {"model": Keeper, "stream": "whole", "fields": ["name"]})
    assert [message for message in checks.check_classes() if ".Half " in message.msg] == []
    del whole


@pytest.mark.parametrize("module", ["shop.tests", "shop.tests.test_live", "shop.live_test", "conftest"])
def test_classes_of_test_modules_do_not_count(define, module):
    """Tests put their bindings in force themselves."""
    define(CLASS, module)
    assert "scattered" not in streams()
    assert checks.check_classes() == []


def test_classes_that_are_built_from_records_do_not_count():
    """Their source is the record."""
    with override_bindings({"stream": "record", "model": "zoo.Keeper", "fields": ["name"]}) as registry:
        assert registry.by_stream["record"] not in code.find_scattered()
        assert checks.check_classes() == []


def test_only_the_new_class_of_a_reloaded_module_counts(module_folder):
    """Modules that imported the old class still refer to it."""
    path = module_folder / "reloaded_shop.py"
    path.write_text(CLASS)
    module = importlib.import_module("reloaded_shop")
    old = module.KeeperBinding
    assert current_registry_of("scattered") is old
    path.write_text(CLASS.replace('["name"]', '["name", "retired"]'))
    importlib.reload(module)
    assert module.KeeperBinding is not old
    assert current_registry_of("scattered") is module.KeeperBinding
    assert current_registry().problems == ()
    assert checks.check_classes() == [scattered("KeeperBinding", "reloaded_shop")]


def current_registry_of(stream):
    return refresh(force=True).by_stream[stream]


def test_a_class_of_a_removed_module_does_not_count(define):
    """The class itself still exists."""
    module = define(CLASS)
    assert "scattered" in streams()
    del sys.modules["shop.models"]
    assert "scattered" not in streams()
    assert checks.check_classes() == []
    del module


def test_a_stream_that_two_modules_define_is_an_error_of_both(define):
    define(CLASS, "shop.models")
    define(CLASS, "shop.consumers")
    assert "scattered" not in streams()
    assert [message.id for message in checks.check_bindings()] == ["declbind.W001", "declbind.W001"]


@pytest.mark.django_db(transaction=True)
async def test_a_demultiplexer_that_names_a_class_that_is_not_in_force_is_logged(caplog):
    """Clients get an answer, and the log has the reason, once."""

    class Local(WebsocketBinding):
        model, stream, fields = Keeper, "local", ("name",)

    class Demultiplexer(WebsocketDemultiplexer):
        consumers = {"local": Local.consumer}

    with override_bindings():
        for _ in range(2):
            async with Client(Demultiplexer.as_asgi()) as client:
                assert code_of(await client.request("local", "create", data={"name": "Ann"})) == "unknown_stream"
    [message] = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert message == (
        f"{Demultiplexer.__qualname__}.consumers names {__name__}.{Local.__qualname__}, which is not in force: "
        "requests for stream 'local' are refused, and nothing is sent. Define the class at the top of bindings.py of "
        "an installed app."
    )

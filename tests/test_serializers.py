"""Serializers: the form of a row's ``data``, which is JSON whatever the row holds."""

import datetime as dt
import decimal
import json
import os
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.db import connection
from django.utils.functional import lazystr
from hypothesis import given
from hypothesis import strategies as st

from declbind.binding_classes import build_binding
from declbind.core.spec import BindingSpec
from declbind.registry import current_registry
from declbind.serializers import Serializer, encode_value, get_serializer, register_serializer
from declbind.serializers.default import field_value, serialize_fields
from declbind.testing import capture_events, override_bindings
from tests.servers import ROOT
from tests.zoo.models import Animal, Crate, Food, Keeper, Profile, Sample

db = pytest.mark.django_db


def bind(model, *fields):
    return build_binding(BindingSpec(stream="s", model=model, fields=fields or ("__all__",)))


def serialize(instance, *fields) -> Any:
    """Return the data of a row as a client reads it."""
    data = serialize_fields(instance, bind(instance._meta.label, *fields))
    return json.loads(encode_value(data))


# Values as JSON text ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (2**70, "1180591620717411303424"),
        (1.5, "1.5"),
        ("é\u2028", '"é\u2028"'),
        (decimal.Decimal("1.50"), '"1.50"'),
        (uuid.UUID(int=1), '"00000000-0000-0000-0000-000000000001"'),
        (dt.date(2024, 2, 29), '"2024-02-29"'),
        (dt.datetime(2024, 2, 29, 12, 0, 0, 123456, dt.UTC), '"2024-02-29T12:00:00.123Z"'),
        (dt.time(12, 30), '"12:30:00"'),
        (dt.timedelta(hours=1), '"P0DT01H00M00S"'),
        (lazystr("later"), '"later"'),
        ({"a": [1, (2,)]}, '{"a":[1,[2]]}'),
    ],
    ids=repr,
)
def test_value_is_written_as_django_writes_it(value, text):
    """Dates, decimals and keys have the form that Django's JSON encoder gives them; the text is compact."""
    assert encode_value(value) == text


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_number_that_json_lacks_is_null(number):
    """A value is converted alone or nested, and the values beside it stay."""
    assert encode_value(number) == "null"
    assert json.loads(encode_value({"a": [number, 1.5, (number,)], "b": {"c": number}})) == {
        "a": [None, 1.5, [None]],
        "b": {"c": None},
    }


def test_half_a_surrogate_pair_is_sent_as_its_escape():
    """No driver can store the character and no socket can send it, but a reader of the escape gets it."""
    text = encode_value({"é": "\ud800"})
    text.encode()
    assert json.loads(text) == {"é": "\ud800"}


@pytest.mark.parametrize("value", [object(), {"x": object()}, {1, 2}, b"bytes"])
def test_value_without_a_json_form_is_an_error(value):
    """An error that names the type is better than a text without meaning."""
    with pytest.raises(TypeError, match="not JSON serializable"):
        encode_value(value)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=8,
    )
)
def test_json_survives(value):
    """A value that JSON can hold is read back unchanged, and the text can be sent."""
    text = encode_value(value)
    text.encode()
    assert json.loads(text) == value


# Rows ---------------------------------------------------------------------------------------------------------------


@db
def test_fields_are_sent_in_the_order_of_the_record():
    """Clients that show columns can rely on the order."""
    keeper = Keeper.objects.create(name="Ann")
    assert list(serialize(keeper, "retired", "name").items()) == [("retired", False), ("name", "Ann")]


@db
@pytest.mark.parametrize(
    "make",
    [
        lambda: Crate.objects.create(label="x"),
        lambda: Keeper.objects.create(name="x"),
        lambda: Profile.objects.create(user_id=5, bio="x"),
    ],
)
def test_key_is_never_repeated_in_the_data(make):
    """It is sent beside the data, under ``pk``."""
    instance = make()
    assert instance._meta.pk.name not in serialize(instance)


@db
def test_sensitive_fields_are_left_out_of_all():
    """``__all__`` does not include fields that look like secrets."""
    assert "secret_token" not in serialize(Animal.objects.create(name="Owl"))


@db
def test_relation_is_the_raw_key_under_the_fields_name(django_assert_num_queries):
    """It takes no query."""
    keeper = Keeper.objects.create(name="Ann")
    owl = Animal.objects.get(pk=Animal.objects.create(name="Owl", keeper=keeper).pk)
    with django_assert_num_queries(0):
        assert serialize(owl, "keeper") == {"keeper": keeper.pk}


@db
def test_list_is_sorted_keys_for_one_query(django_assert_num_queries):
    """The order does not depend on how it was filled, and the listed rows are not read."""
    foods = [Food.objects.create(name=name) for name in "abc"]
    owl = Animal.objects.create(name="Owl")
    owl.foods.add(foods[2], foods[0])
    with django_assert_num_queries(1):
        assert serialize(owl, "foods") == {"foods": [foods[0].pk, foods[2].pk]}
    owl.foods.clear()
    assert serialize(owl, "foods") == {"foods": []}


@db
@pytest.mark.parametrize(("blob", "sent"), [(None, None), (b"", ""), (b"\x00\xff", "AP8=")])
def test_bytes_are_base64(blob, sent):
    """PostgreSQL returns a memoryview, SQLite bytes; clients get one form."""
    pk = Sample.objects.create(blob=blob).pk
    assert serialize(Sample.objects.get(pk=pk), "blob") == {"blob": sent}


@pytest.mark.parametrize(
    ("moment", "sent"),
    [
        (dt.datetime(2024, 2, 29, 12, tzinfo=dt.timezone(dt.timedelta(hours=2))), "2024-02-29T10:00:00Z"),
        (dt.datetime(1, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=2))), "0001-01-01T00:00:00+02:00"),
        (dt.datetime(2024, 2, 29, 12), "2024-02-29T12:00:00"),  # noqa: DTZ001 - of a project without time zones
    ],
)
def test_moment_is_sent_in_utc(moment, sent):
    """The zone of the database's connection does not matter: one moment has one text."""
    value = field_value(Sample(moment=moment), Sample._meta.get_field("moment"))
    assert json.loads(encode_value(value)) == sent


@db
def test_file_is_its_name(settings, tmp_path):
    """Neither its address, which may be signed, nor its content is sent."""
    settings.MEDIA_ROOT = tmp_path
    sample = Sample.objects.create(upload=ContentFile(b"x", name="note.txt"))
    assert serialize(sample, "upload") == {"upload": "note.txt"}
    assert serialize(Sample.objects.create(), "upload") == {"upload": ""}


@db
def test_json_field_is_json_and_not_text():
    """A document in the row is part of the data."""
    sample = Sample.objects.create(info={"a": [1, {"b": None}]}, extra=None)
    assert serialize(sample, "info", "extra") == {"info": {"a": [1, {"b": None}]}, "extra": None}


def test_decimal_without_a_number_is_null():
    """It becomes null like a float."""
    for text in ("NaN", "Infinity"):
        sample = Sample(price=decimal.Decimal(text))
        assert field_value(sample, Sample._meta.get_field("price")) is None


@db
def test_every_column_of_a_full_row_is_json():
    """Every type of column has a form, which is the same for the stored row and the loaded instance."""
    sample = Sample.objects.create(
        flag=True, maybe=False, small=1, count=2, big=2**40, ratio=1.5, price="1.50", text="é", note="n", code="c",
        mail="a@b.example", site="https://b.example/", day="2024-02-29", moment="2024-02-29T12:00:00Z", clock="12:30",
        span=dt.timedelta(days=1), key=uuid.UUID(int=1), address="1.2.3.4", level=1, info=[1], extra="x", blob=b"x",
        required_null=3,
    )  # fmt: skip
    loaded = Sample.objects.get(pk=sample.pk)
    data = serialize(loaded)
    assert data["price"] == "1.50"
    assert set(data) == {field.name for field in Sample._meta.concrete_fields} - {"id"}
    assert None not in data.values()


# Serializers of a project -------------------------------------------------------------------------------------------


def shout(instance, binding):
    """Serialize like a project."""
    return {"shout": instance.name.upper(), "stream": binding.stream}


@pytest.fixture
def named(settings):
    settings.DECLBIND = {"SERIALIZERS": {"shouting": f"{__name__}.shout", "missing": f"{__name__}.nothing"}}


@db
@pytest.mark.usefixtures("named")
def test_record_can_name_a_serializer_of_the_project():
    """The result of the serializer is the data of every frame."""
    record = {"stream": "k", "model": "zoo.Keeper", "fields": ["name"], "serializer": "shouting"}
    with override_bindings(record), capture_events() as events:
        Keeper.objects.create(name="Ann")
    assert events[0].data == {"shout": "ANN", "stream": "k"}


@pytest.mark.usefixtures("named")
def test_unknown_serializer_says_which_there_are():
    """The message names the setting and the names in it."""
    with pytest.raises(LookupError) as caught:
        get_serializer("shoutng")
    message = "Serializer 'shoutng' is not in DECLBIND['SERIALIZERS'] (there are: default, missing, shouting)."
    assert caught.value.args == (message,)


@pytest.mark.usefixtures("named")
def test_serializer_that_cannot_be_imported_is_an_import_error():
    """The setting names a missing module or attribute."""
    with pytest.raises(ImportError):
        get_serializer("missing")


def test_default_needs_no_setting():
    """It is available under its name, and a setting cannot replace it."""
    assert get_serializer("default") is serialize_fields


@db
def test_plain_row_costs_no_query(django_assert_num_queries):
    """Serializing happens inside the writer's transaction."""
    sample = Sample.objects.get(pk=Sample.objects.create().pk)
    with django_assert_num_queries(0, connection=connection):
        serialize(sample)


def test_code_may_register_a_serializer(monkeypatch):
    """A name from code is equivalent to one from the setting, and cannot replace another."""
    registered: dict[str, object] = {}
    monkeypatch.setattr("declbind.conf.registered_serializers", registered)
    monkeypatch.setattr("declbind.serializers.registered_serializers", registered)

    def shout(instance, binding):
        return {"name": instance.name.upper()}

    register_serializer("loud", shout)
    assert get_serializer("loud") is shout
    register_serializer("loud", shout)
    for taken in ("loud", "default"):
        with pytest.raises(ValueError, match="exists already"):
            register_serializer(taken, lambda instance, binding: {})


LATE_APP = """
from django.apps import AppConfig


class LateConfig(AppConfig):
    name = "late"

    def ready(self):
        from declbind.serializers import register_serializer

        register_serializer("loud", lambda instance, binding: {"text": instance.text.upper()})
"""
LATE_MODELS = """
from django.db import models


class Note(models.Model):
    text = models.TextField()
"""
LATE_BINDINGS = """
from declbind import WebsocketBinding


class NoteBinding(WebsocketBinding):
    model = "late.Note"
    stream = "notes"
    fields = ["text"]
    serializer = "loud"
"""
LATE_START = """
import django
from django.conf import settings

settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    INSTALLED_APPS=%r,
)
django.setup()

from declbind.registry import current_registry, get_registry
from declbind.testing import capture_events
from django.core.management import call_command
from late.models import Note

found = [problem.message for entry in current_registry().entries for problem in entry.problems]
call_command("migrate", run_syncdb=True, verbosity=0)
with capture_events() as events:
    Note.objects.create(text="hello")
print(found, list(get_registry().by_stream), [event.data for event in events])
"""


@pytest.mark.parametrize("place", [0, 2, 4])
def test_the_apps_that_register_serializers_may_be_in_any_order(tmp_path: Path, place: int) -> None:
    """A binding is in force and captures writes, even if its serializer is registered after the first load."""
    for name, text in {"apps": LATE_APP, "models": LATE_MODELS, "bindings": LATE_BINDINGS, "__init__": ""}.items():
        (tmp_path / "late").mkdir(exist_ok=True)
        (tmp_path / f"late/{name}.py").write_text(text)
    apps = ["django.contrib.auth", "django.contrib.contenttypes", "channels", "declbind"]
    apps.insert(place, "late")
    done = subprocess.run(
        [sys.executable, "-c", LATE_START % apps], cwd=ROOT, capture_output=True, text=True, timeout=100, check=False,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"},
    )  # fmt: skip
    assert done.stdout.strip() == "[] ['notes'] [{'text': 'HELLO'}]", done.stdout + done.stderr


def test_a_serializer_registered_later_is_known_to_the_registry_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The registry in force is validated again, once: registering the same serializer again changes nothing."""
    registered: dict[str, Serializer] = {}
    monkeypatch.setattr("declbind.conf.registered_serializers", registered)
    monkeypatch.setattr("declbind.serializers.registered_serializers", registered)
    before = current_registry()
    assert current_registry() is before
    register_serializer("later", serialize_fields)
    after = current_registry()
    assert after is not before
    register_serializer("later", serialize_fields)
    assert current_registry() is after

"""The validation against Django: the names in a record exist, and no sensitive field is exposed by accident."""

import json
from pathlib import Path

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.contrib.contenttypes.models import ContentType
from django.db import models
from django.test.utils import isolate_apps

from declbind import record_validation
from declbind.core.spec import BindingSpec
from declbind.fields import bound_fields, concrete_field, find_model, writable_fields
from declbind.record_validation import validate_document, validate_spec
from declbind.record_warnings import find_warnings

RECORDS = Path(__file__).parent / "data" / "records"
REFUSED = json.loads((RECORDS / "refused_by_django.json").read_text(encoding="utf-8"))
USER = {"stream": "users", "model": "auth.User", "fields": ["username"]}
LOG = {"stream": "log", "model": "admin.LogEntry", "fields": ["action_flag", "user"]}


def texts(document, **options):
    """Return the problems of a record that is valid by the schema."""
    spec, problems = validate_document(document, **options)
    assert spec is not None, problems
    return [str(problem) for problem in problems]


def names(fields):
    return [field.name for field in fields]


def test_good_records_have_no_problems():
    """A valid record with every kind of name has no problem."""
    assert texts(USER) == []
    assert texts({**LOG, "groups": ["u-{user_id}"], "scope": {"user_id": "$user.pk"}}) == []
    assert texts({**USER, "fields": "__all__", "permissions": "auth.change_user", "where": {"is_active": True}}) == []


def test_the_message_of_a_typing_error(monkeypatch):
    """An unknown field is reported with its stream, its model and a suggestion."""
    with isolate_apps("tests"):

        class IntegerValue(models.Model):
            name = models.CharField(max_length=100)
            value = models.IntegerField()

            class Meta:
                app_label = "example"

    monkeypatch.setattr(record_validation, "find_model", lambda label: IntegerValue)
    record = {"stream": "intval", "model": "example.IntegerValue", "fields": ["name", "valeu"]}
    assert texts(record) == [
        "$.fields[1]: Binding 'intval': field 'valeu' does not exist on example.IntegerValue. Did you mean 'value'?"
    ]


@pytest.mark.parametrize("label", ["auth.User", "auth.user", "AUTH.USER", "Auth.uSER"])
def test_models_are_found_in_any_case(label):
    """The label of a model is not case-sensitive."""
    assert find_model(label) is User
    assert texts({**USER, "model": label}) == []


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("auth.Usr", "expected an installed model, got 'auth.Usr'. Did you mean 'auth.User'?"),
        ("accounts.user", "expected an installed model, got 'accounts.user'. Did you mean 'auth.User'?"),
        ("auth.AbstractUser", "expected an installed model, got 'auth.AbstractUser'."),
        (
            "zebra.Stripe",
            (
                "expected an installed model, got 'zebra.Stripe'. Is its app in INSTALLED_APPS? "
                "An abstract model cannot be bound."
            ),
        ),
    ],
)
def test_unknown_models(model, message):
    """A model that is not installed is reported with a suggestion."""
    [text] = texts({**USER, "model": model})
    assert text.startswith(f"$.model: Binding 'users': {message}")


def test_swapped_models(monkeypatch):
    """A model that a setting has replaced has no table. The message names the one in use."""
    # Django works this out once per model, from a setting, before any test can change it.
    monkeypatch.setitem(vars(User._meta), "swapped", "accounts.Person")
    assert texts(USER) == [
        (
            "$.model: Binding 'users': expected a model in use, got auth.User, which is swapped out. "
            "Bind 'accounts.Person'."
        )
    ]


def test_our_own_models_cannot_be_bound():
    """A binding of the event log would log each of its own events."""
    [text] = texts({**USER, "model": "declbind.Event", "fields": []})
    assert text.endswith("expected a model of the project, got declbind.Event, which belongs to declbind.")


def test_composite_primary_keys_cannot_be_bound(monkeypatch):
    """A row in a frame has a single value as its key."""
    with isolate_apps("tests"):

        class Seat(models.Model):
            pk = models.CompositePrimaryKey("row", "number")
            row = models.IntegerField()
            number = models.IntegerField()

            class Meta:
                app_label = "example"

    monkeypatch.setattr(record_validation, "find_model", lambda label: Seat)
    [text] = texts({"stream": "seats", "model": "example.Seat", "fields": ["row"]})
    assert "got example.Seat with a composite one" in text


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case["name"])
def test_messages(case):
    """Each fault has its place, the expected and the given value, and the probable fix."""
    assert texts(case["record"]) == case["problems"]


def test_a_foreign_key_is_sent_by_its_name():
    """The attname is valid in templates, ``where`` and ``scope``, but not in the fields."""
    assert texts({**LOG, "fields": ["user_id"]}) == [
        "$.fields[0]: Binding 'log': field 'user_id' does not exist on admin.LogEntry. Did you mean 'user'?"
    ]
    for name in ("user", "user_id"):
        assert texts({**LOG, "groups": [f"u-{{{name}}}"], "where": {name: 3}, "scope": {name: "$user.pk"}}) == []


def test_not_editable_is_not_writable():
    """Clients cannot write a field that no form offers."""
    record = {"stream": "log", "model": "admin.LogEntry", "fields": ["action_time", "action_flag"]}
    [text] = texts({**record, "writable": ["action_time"]})
    assert "field 'action_time' of admin.LogEntry is not editable" in text
    spec = BindingSpec.from_dict(record)
    assert names(writable_fields(LogEntry, spec)) == ["action_flag"]


def test_serializers_of_the_setting_are_known(settings):
    """A name from the setting is valid like the default."""
    settings.DECLBIND = {"SERIALIZERS": {"short": "example.serializers.short"}}
    assert texts({**USER, "serializer": "short"}) == []


def test_several_faults_are_all_named():
    """All faults are reported at once."""
    faulty = {**USER, "fields": ["usrname"], "where": {"x": 1}, "serializer": "s", "permissions": {"view": "a.b"}}
    assert [text.partition(":")[0] for text in texts(faulty)] == [
        "$.fields[0]",
        "$.where.x",
        "$.permissions.view",
        "$.serializer",
    ]


@pytest.mark.django_db
def test_codenames_of_the_permission_table():
    """A permission that only the database has is known only if the database is queried."""
    Permission.objects.create(
        codename="moderate", name="Moderate", content_type=ContentType.objects.get_for_model(User)
    )
    record = {**USER, "permissions": {"view": "auth.moderate"}}
    assert texts(record) != []
    assert texts(record, database=True) == []


def test_validation_makes_no_query(django_assert_num_queries, db):
    """By default the validation makes no query, because it runs while apps are being set up."""
    with django_assert_num_queries(0):
        texts({**USER, "permissions": "a.b", "groups": ["x-{id}"], "scope": {"id": "$user.pk"}})


# Bound and writable fields
# -------------------------------------------------------------------------------------------


@pytest.fixture
def family():
    with isolate_apps("tests"):

        class Tag(models.Model):
            class Meta:
                app_label = "example"

        class Place(models.Model):
            name = models.CharField(max_length=10)
            tags = models.ManyToManyField(Tag)

            class Meta:
                app_label = "example"

        class Restaurant(Place):
            stars = models.IntegerField()
            doubled = models.GeneratedField(
                expression=models.F("stars") * 2, output_field=models.IntegerField(), db_persist=True
            )
            opened = models.DateTimeField(auto_now_add=True)
            owner = models.ForeignKey(Tag, models.CASCADE)

            class Meta:
                app_label = "example"

        class Diner(Restaurant):
            class Meta:
                app_label = "example"
                proxy = True

        yield {"Place": Place, "Restaurant": Restaurant, "Diner": Diner}


@pytest.mark.parametrize("model", ["Restaurant", "Diner"])
def test_children_have_their_parents_fields(family, model):
    """A child sends its parent's fields, but neither primary key. Generated fields cannot be written."""
    spec = BindingSpec("r", f"example.{model}", fields=("__all__",))
    sent = ["name", "stars", "doubled", "opened", "owner", "tags"]
    assert names(bound_fields(family[model], spec)) == sent
    assert names(writable_fields(family[model], spec)) == ["name", "stars", "owner", "tags"]


def test_order_of_the_fields(family):
    """Named fields keep their order, and the primary key is dropped."""
    spec = BindingSpec("r", "example.Restaurant", fields=("tags", "id", "stars", "name"), writable=("name", "tags"))
    assert names(bound_fields(family["Restaurant"], spec)) == ["tags", "stars", "name"]
    assert names(writable_fields(family["Restaurant"], spec)) == ["name", "tags"]


def test_what_is_not_bound_is_not_writable(family):
    """A whitelist cannot open a field that is not sent."""
    spec = BindingSpec("r", "example.Restaurant", fields=("stars",), writable=("name", "doubled", "id", "stars"))
    assert names(writable_fields(family["Restaurant"], spec)) == ["stars"]
    assert writable_fields(family["Restaurant"], BindingSpec("r", "x.Y", fields=("stars",), writable=())) == []


@pytest.mark.parametrize(("name", "attname"), [("owner", "owner_id"), ("owner_id", "owner_id"), ("id", "id")])
def test_concrete_field(family, name, attname):
    """A column is found by name and by attname, in the parent too."""
    assert concrete_field(family["Restaurant"], name).attname == attname


@pytest.mark.parametrize("name", ["tags", "nothing", "", "owner__id", "pk"])
def test_no_concrete_field(family, name):
    """A name without a column in the row is a LookupError."""
    with pytest.raises(LookupError):
        concrete_field(family["Restaurant"], name)


# Warnings
# ----------------------------------------------------------------------------------------------------------


def test_warns_of_an_oracle():
    """A group or a condition over a field that is not sent causes a warning, because it discloses the value."""
    record = {"stream": "users", "model": "auth.User", "fields": ["username"]}
    spec = BindingSpec.from_dict({**record, "groups": ["mail-{email}"], "where": {"is_staff": False}})
    assert [str(warning) for warning in find_warnings(spec)] == [
        (
            "$.groups[0]: Binding 'users': the group template 'mail-{email}' uses 'email', which is not sent: "
            "clients that may "
            "subscribe can find out its value by trying. Send it, or group by another field."
        ),
        (
            "$.where.is_staff: Binding 'users': 'where' asks for 'is_staff', which is not sent: the presence "
            "of a row discloses "
            "its value. Send it, or accept this."
        ),
    ]
    assert validate_spec(spec) == []


@pytest.mark.parametrize(
    "change",
    [
        {"groups": ["u-{user_id}"]},
        {"groups": ["u-{user}"], "where": {"user_id": 3, "action_flag": [1, 2]}},
        {"groups": ["x-{id}"]},
        {"fields": ["action_flag"], "groups": ["u-{user_id}"], "scope": {"user": "$user.pk"}},
    ],
)
def test_does_not_warn_without_reason(change):
    """Sent fields, the primary key, and fields that the scope fills in disclose nothing new."""
    assert find_warnings(BindingSpec(**{**LOG, **change})) == []


def test_warns_of_what_has_no_effect():
    """The primary key among the fields, and a subscription at connect to no group, have no effect."""
    spec = BindingSpec("users", "auth.User", fields=("id", "username"), groups=("x-{username}",), auto_subscribe=True)
    assert [warning.path for warning in find_warnings(spec)] == ["$.fields[0]", "$.auto_subscribe"]
    assert validate_spec(spec) == []


# Both judgements
# ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "document",
    [None, 3, [], {}, "auth.User", {"stream": []}, {**USER, "fields": [[]]}, {**USER, "model": {}}, {1: 2}, object()],
    ids=repr,
)
def test_never_raises(document):
    """Any input gives an answer."""
    spec, problems = validate_document(document)
    assert spec is None
    assert problems


def test_takes_records_written_in_python():
    """Both validations accept tuples in place of lists."""
    spec, problems = validate_document({**USER, "fields": ("username",), "where": {"id": (1, 2)}})
    assert problems == []
    assert spec is not None
    assert spec.fields == ("username",)

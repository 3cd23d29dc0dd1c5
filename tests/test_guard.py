"""The results of a binding's code are checked by their keys: a serializer, ``send_members``, a class's payload."""

from __future__ import annotations

import datetime as dt
import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.hashers import get_hashers, make_password
from django.core.management import call_command
from django.test import Client as Browser

from declbind import WebsocketBinding, checks
from declbind.bindings import Binding
from declbind.conf import registered_serializers
from declbind.console.openings import find_openings
from declbind.console.withheld import load_withheld
from declbind.models import BindingRecord, Event, Traffic
from declbind.outbound import drafts
from declbind.registry import override
from declbind.serializers import register_serializer
from declbind.serializers.guard import MAX_DEPTH, MAX_KNOWN, Guard
from declbind.stored_rows import AnyRow
from declbind.testing import Client, override_bindings
from tests.console_forms import LIST
from tests.json_types import JSONObject
from tests.live import next_payload
from tests.zoo.models import Keeper

SECRET = "a-secret-value"
RECORD = {
    "stream": "keepers",
    "model": "zoo.Keeper",
    "fields": ["name"],
    "serializer": "leaky",
    "permissions": {"view": True},
}


def leak(instance: Any, binding: type[Binding]) -> dict[str, object]:
    """Return the result of a careless serializer: a key of the row's user, in an object and in a list too."""
    return {
        "name": instance.name,
        "api_token": SECRET,
        "owner": {"name": "ada", "secretKey": SECRET, "has_password": True},
        "devices": [{"kind": "phone", "otp": [SECRET]}],
    }


class LeakyMember(WebsocketBinding):
    """A class that sends a member."""

    model = Keeper
    stream = "keepers"
    fields = ("name",)
    send_members = ("access_token",)
    permissions = {"view": True}


class LeakyPayload(WebsocketBinding):
    """A class that makes its payload."""

    model = Keeper
    stream = "keepers"
    fields = ("name",)
    permissions = {"view": True}

    def serialize(self, instance: AnyRow, action: str) -> dict[str, object]:
        return {**super().serialize(instance, action), "session": {"token": SECRET}}


@pytest.fixture(autouse=True)
def leaky(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Install the serializer, and a member of the model; forget what was recorded."""
    register_serializer("leaky", leak)
    monkeypatch.setattr(Keeper, "access_token", property(lambda self: SECRET), raising=False)
    monkeypatch.setattr(drafts, "_noted", {})
    yield
    registered_serializers.pop("leaky", None)


def written(binding: Any) -> Any:
    """Return what the log stores of a row that is written under a binding."""
    with override(binding):
        Keeper.objects.create(name="x")
        event = Event.objects.filter(stream="keepers").latest("id")
    return json.loads(event.data)


# Sent values ----------------------------------------------------------------------------------------------------------

CASES = [RECORD, LeakyMember, LeakyPayload]


@pytest.mark.django_db
@pytest.mark.parametrize("binding", CASES)
def test_values_that_look_like_secrets_are_null_in_the_log(binding: Any) -> None:
    """This applies anywhere in the result. The rest of the row is sent."""
    data = written(binding)
    assert SECRET not in json.dumps(data)
    assert "x" in json.dumps(data)
    if binding is RECORD:
        assert data == {
            "name": "x",
            "api_token": None,
            "owner": {"name": "ada", "secretKey": None, "has_password": True},
            "devices": [{"kind": "phone", "otp": None}],
        }


@pytest.mark.django_db
@pytest.mark.parametrize("binding", CASES)
def test_secrets_without_the_guard_are_detected(binding: type[Binding], monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: the code of each case returns the secret."""
    monkeypatch.setattr(Guard, "clean", lambda self, data: (data, ()))
    monkeypatch.setattr(Guard, "clean_payload", lambda self, data: (data, ()))
    assert SECRET in json.dumps(written(binding))


@pytest.mark.django_db
def test_values_named_in_sensitive_are_sent() -> None:
    """This applies at any depth. ``sensitive`` may contain a key of the serializer's own."""
    data = written({**RECORD, "sensitive": ["api_token", "otp"]})
    assert (data["api_token"], data["devices"], data["owner"]["secretKey"]) == (
        SECRET,
        [{"kind": "phone", "otp": [SECRET]}],
        None,
    )


@pytest.mark.django_db(transaction=True)
async def test_a_snapshot_is_checked_too() -> None:
    """It is made by the same code."""
    with override_bindings(RECORD):
        await Keeper.objects.acreate(name="x")
        async with Client() as client:
            assert (await client.request("keepers", "subscribe", params={}, snapshot=True))["ok"]
            payload = await next_payload(client)
            assert payload["objects"][0]["data"]["api_token"] is None
            assert SECRET not in json.dumps(payload)


@pytest.mark.parametrize("hasher", [hasher.algorithm for hasher in get_hashers()])
def test_a_password_hash_is_never_sent(hasher: str) -> None:
    """This holds whatever its name, and whatever ``sensitive`` contains."""
    data = {"password": make_password("x", hasher=hasher), "note": [make_password("x", hasher=hasher)], "n": 1}
    guard = Guard(["password"], ["note"], [])
    assert guard.clean(data) == ({"password": None, "note": [None], "n": 1}, ("note", "password"))


# Reports of it
# --------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_removed_values_are_recorded_once_for_each_set_of_keys() -> None:
    """The error in the traffic quotes no value, however many rows are written."""
    with override(RECORD):
        for number in range(3):
            Keeper.objects.create(name=f"x{number}")
    row = Traffic.objects.get()
    assert (row.kind, row.stream, row.outcome) == (Traffic.ERROR, "keepers", "withheld")
    assert "'api_token', 'devices.otp', 'owner.secretKey'" in row.message
    assert SECRET not in row.message
    assert load_withheld("default") == {"keepers": row.message}


@pytest.mark.django_db
def test_the_list_the_doctor_why_and_check_name_the_keys(admin_client: Browser) -> None:
    """The page of trials and the preview report them too."""
    record = BindingRecord().assign(RECORD)
    record.save()
    keeper = Keeper.objects.create(name="x")

    def run(*words: str) -> str:
        out = io.StringIO()
        try:
            call_command("declbind", *words, stdout=out)
        except SystemExit:
            pass
        return out.getvalue()

    texts = {
        "check": run("check"),
        "doctor": run("doctor"),
        "why": run("why", "keepers", str(keeper.pk)),
        "preview": run("preview", "keepers", str(keeper.pk)),
        "try": admin_client.get(
            f"{LIST}try/", {"stream": "keepers", "action": "outbound", "pk": str(keeper.pk)}
        ).content.decode(),
        "list": admin_client.get(LIST).content.decode(),
    }
    assert {name for name, text in texts.items() if "api_token" in text} == set(texts)
    assert {name for name, text in texts.items() if SECRET in text} == set()
    assert "holds values back" in texts["list"]


@pytest.mark.django_db
def test_a_trial_records_nothing(admin_client: Browser) -> None:
    """The trial itself reports it."""
    with override(RECORD):
        keeper = Keeper.objects.create(name="x")
        Traffic.objects.all().delete()
        drafts._noted.clear()
        admin_client.get(f"{LIST}try/", {"stream": "keepers", "action": "outbound", "pk": str(keeper.pk)})
    assert not Traffic.objects.exists()


@pytest.mark.django_db
def test_a_member_is_named_by_the_checks_before_anything_is_written() -> None:
    """Its name is known without a row."""
    with override(LeakyMember):
        [message] = checks.check_bindings()
    assert (message.id, "'access_token'" in message.msg) == ("declbind.W003", True)


def test_naming_a_key_of_a_serializer_needs_the_permission_to_expose_secrets() -> None:
    """Naming a field needs it too."""
    register_serializer("other", leak)
    try:
        named = {**RECORD, "sensitive": ["api_token"]}
        rights = {right for opening in find_openings(RECORD, named) for right in opening.permissions}
        assert "declbind.expose_sensitive" in rights
        again = {
            right for opening in find_openings(named, {**named, "description": "x"}) for right in opening.permissions
        }
        assert "declbind.expose_sensitive" not in again
        moved = find_openings(named, {**named, "serializer": "other"})
        assert "declbind.expose_sensitive" in {right for opening in moved for right in opening.permissions}
    finally:
        registered_serializers.pop("other", None)


# The guard itself -----------------------------------------------------------------------------------------------------


def test_a_binding_that_sends_fields_has_no_guard() -> None:
    """The names of its fields are checked with the record, and its writes cost nothing extra."""

    class Plain(WebsocketBinding):
        model = Keeper
        stream = "plain"
        fields = ("name",)

    assert Plain.resolved().guard is None
    assert LeakyMember.resolved().guard is not None
    assert issubclass(Plain, Binding)


def test_harmless_names_are_sent() -> None:
    """These are names about the existence or the end of a secret, bound fields, and documents of bound fields."""
    moment = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    data = {"has_token": True, "token_expires": moment, "token": None, "hash": "bound", "settings": {"token": "own"}}
    guard = Guard([], ["hash", "settings"], ["settings"])
    cleaned, withheld = guard.clean(data)
    assert cleaned is data
    assert withheld == ()


def test_the_result_of_the_code_is_not_changed() -> None:
    """The code may keep its result. Only the changed parts are copied."""
    inner = {"token": "x"}
    data = {"a": [1, 2], "b": [inner, {"c": 1}]}
    cleaned, withheld = Guard([], [], []).clean(data)
    assert cleaned == {"a": [1, 2], "b": [{"token": None}, {"c": 1}]}
    assert cleaned["a"] is data["a"]
    assert inner == {"token": "x"}
    assert withheld == ("b.token",)


def test_the_guard_is_bounded() -> None:
    """The depth and the cached key sets are bounded, and an object that contains itself is handled."""
    deep: JSONObject = {"token": "x"}
    for _ in range(MAX_DEPTH - 1):
        deep = {"in": deep}
    guard = Guard([], [], [])
    assert guard.clean(deep)[1] != ()
    assert guard.clean({"in": {"in": deep}})[1] == ()
    looped: JSONObject = {}
    looped["again"] = [looped]
    assert guard.clean(looped)[0] is looped
    for number in range(MAX_KNOWN + 10):
        guard.clean({f"key{number}": 1})
    assert all(len(known) <= MAX_KNOWN for known in guard._known)


@pytest.mark.parametrize("data", [{1: "x", None: "y"}, {}, {"a": object()}])
def test_strange_keys_and_values_pass(data: dict[Any, Any]) -> None:
    """The encoder handles them."""
    assert Guard([], [], []).clean(data)[0] is data

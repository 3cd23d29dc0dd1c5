"""``declbind forget``: stored data about a row or a user is erased, and subscribers take a snapshot."""

from __future__ import annotations

import io
import json

import pytest
from django.apps import apps
from django.core.management import CommandError, call_command
from django.utils import timezone

from declbind.console import erasure
from declbind.live.hub import get_hub
from declbind.models import BindingRecord, Connection, Event, IdempotencyKey, SavedView, Traffic, editing
from declbind.outbound import entries
from declbind.testing import Client, override_bindings
from tests.captured_events import KEEPERS
from tests.factories import make_user
from tests.live import NUMBERS, in_thread, next_payload, since_of, store, subscribe
from tests.zoo.models import Keeper

SECRET = "a-name-to-forget"


def forget(*arguments: str) -> object:
    out = io.StringIO()
    call_command("declbind", "forget", *arguments, "--format", "json", stdout=out)
    return json.loads(out.getvalue())


def is_stored(text: str) -> list[str]:
    """Return the tables of declbind that contain a text, in any column."""
    models = apps.get_app_config("declbind").get_models()
    return sorted(
        model._meta.db_table
        for model in models
        if any(text in str(value) for values in model._base_manager.values_list() for value in values)
    )


@pytest.mark.django_db
def test_the_values_of_a_row_are_erased():
    """Names of groups are erased too. Other rows stay, and offsets have no gap."""
    with override_bindings({**KEEPERS, "groups": ["n-{name}"]}):
        keeper, other = Keeper.objects.create(name=SECRET), Keeper.objects.create(name="other")
        keeper.save()
        keeper_pk = keeper.pk
        keeper.delete()
        ids = list(Event.objects.values_list("id", flat=True))
        assert is_stored(SECRET) == ["declbind_event"]
        answer = forget("zoo.keeper", str(keeper_pk))
    assert answer == {"erased": {"declbind_event": 3}, "streams": ["keepers"]}
    assert is_stored(SECRET) == []
    assert list(Event.objects.filter(id__in=ids).values_list("id", flat=True)) == ids
    assert Event.objects.filter(object_pk=str(other.pk), kind=Event.ROW).exists()


@pytest.mark.django_db
def test_values_that_are_not_erased_are_detected():
    """Negative control: the search for a text reads each table."""
    with override_bindings(KEEPERS):
        Keeper.objects.create(name=SECRET)
    Traffic.objects.create(at=timezone.now(), kind=Traffic.REQUEST, username=SECRET)
    assert is_stored(SECRET) == ["declbind_event", "declbind_traffic"]


@pytest.mark.django_db
def test_a_user_is_erased():
    """Name and key are removed wherever they are stored. The revisions themselves stay."""
    user = make_user(username=SECRET)
    with override_bindings(KEEPERS, {"stream": "people", "model": "auth.User", "fields": ["username"]}):
        with entries.acting(SECRET):
            Keeper.objects.create(name="x")
        user.save()
        with editing(author=user):
            BindingRecord.objects.create(**{**NUMBERS, "stream": "others"})
        Traffic.objects.create(at=timezone.now(), kind=Traffic.REQUEST, username=SECRET, user_pk=str(user.pk))
        Connection.objects.create(
            id="c", node="n", user_pk=str(user.pk), username=SECRET, opened_at=timezone.now(), closed_at=timezone.now()
        )
        SavedView.objects.create(owner_pk=str(user.pk), name=SECRET)
        IdempotencyKey.objects.create(actor=f"user:{user.pk}", stream="s", key=SECRET, created_at=timezone.now())
        assert len(is_stored(SECRET)) == 6
        forget("--user", SECRET)
    assert is_stored(SECRET) == []
    assert apps.get_model("declbind.BindingRevision").objects.filter(stream="others", author_pk="").exists()


@pytest.mark.django_db(transaction=True)
async def test_subscribers_and_returning_clients_take_a_snapshot():
    """Nothing of the row is replayed, from the log or from the memory of the process."""
    with override_bindings(NUMBERS):
        async with Client() as client:
            since = since_of(await subscribe(client))
            row = await store("a", 42)
            assert (await next_payload(client))["data"]["value"] == 42
            await in_thread(erasure.forget_row, "example.integervalue", str(row.pk), "default")
            assert await next_payload(client) == {"action": "resync", "reason": "bulk"}
            async with Client() as late:
                await subscribe(late, since=since)
                found = []
                while not await late.is_silent():
                    found.append(await next_payload(late))
            assert found == [{"action": "resync", "reason": "bulk"}] * 2


@pytest.mark.django_db(transaction=True)
async def test_a_process_that_replays_from_memory_is_detected(monkeypatch):
    """Negative control of the previous test."""
    with override_bindings(NUMBERS):
        async with Client() as client:
            since = since_of(await subscribe(client))
            monkeypatch.setattr(await get_hub(), "forget_recent", lambda: None)
            row = await store("a", 42)
            await next_payload(client)
            await in_thread(erasure.forget_row, "example.integervalue", str(row.pk), "default")
            await next_payload(client)
            async with Client() as late:
                await subscribe(late, since=since)
                assert (await next_payload(late))["data"]["value"] == 42


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "Expected a model and the key of a row, or --user."),
        (["zoo.keeper"], "Expected a model and the key of a row, or --user."),
        (["zoo.keeper", "1", "--user", "x"], "Expected a model and the key of a row, or --user."),
        (["zoo.nothing", "1"], "there is no such model"),
        (["zoo", "1"], "there is no such model"),
        (["zoo.keeper", "x"], "Expected the primary key of a zoo.keeper, got 'x'."),
        (["--user", "nobody"], "nobody"),
        (["--user", "anonymous"], "Expected a user's name or primary key, got 'anonymous'"),
    ],
)
def test_unknown_rows_and_users_are_reported(arguments, text):
    """The message names what was expected."""
    with pytest.raises(CommandError, match=text.replace(".", r"\.")):
        call_command("declbind", "forget", *arguments)

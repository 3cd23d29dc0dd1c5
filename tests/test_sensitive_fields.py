"""Sensitive fields: names that look sensitive, and records that expose them knowingly or by accident."""

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.db import models
from django.test.utils import isolate_apps

from declbind.core.spec import BindingSpec
from declbind.fields import bound_fields, is_sensitive
from declbind.record_validation import validate_document
from tests.test_record_validation import USER, names, texts

LOOK_SENSITIVE = """
password Password password_2 old_passwords token auth_token tokens csrf_token_value secret client_secret hash file_hash
api_key apiKey apikey private_key otp otp_code pin pin_code PIN pinCode salt credentials session_key access_key totp
passphrase pwd
"""
LOOK_HARMLESS = """
name spinning pinned opinion option key public_key keyboard basalt salty passed compass author primary id
shipping_pincushion sort_key
"""


@pytest.mark.parametrize("name", LOOK_SENSITIVE.split())
def test_names_that_look_sensitive(name):
    """Passwords, tokens and their like are recognised by their names."""
    assert is_sensitive(name)


@pytest.mark.parametrize("name", LOOK_HARMLESS.split())
def test_names_that_do_not_look_sensitive(name):
    """A word that only contains a sensitive one is not sensitive."""
    assert not is_sensitive(name)


def test_a_sensitive_field_is_not_named_by_accident():
    """Sending a password requires a second key, which the message names."""
    record = {**USER, "fields": ["username", "password"]}
    assert texts(record) == [
        (
            "$.fields[1]: Binding 'users': field 'password' of auth.User looks sensitive. Remove it from "
            "'fields', or "
            "name it in 'sensitive' as well if it is to be sent."
        )
    ]
    assert texts({**record, "sensitive": ["password"]}) == []
    assert texts(record, python=True) == []


PLACES = [
    (["$.groups[0]"], {"groups": ["of-{secret_token}"]}),
    (["$.where.secret_token"], {"where": {"secret_token": "x"}}),
    (
        ["$.groups[0]", "$.scope.secret_token"],
        {"scope": {"secret_token": "$user.username"}, "groups": ["of-{secret_token}"]},
    ),
]


@pytest.mark.parametrize(("paths", "part"), PLACES)
def test_a_sensitive_field_in_groups_and_conditions_is_exposed(paths, part):
    """Names of groups contain values, and conditions disclose them. A class may name such a field, as in ``fields``."""
    record = {"stream": "pets", "model": "zoo.Animal", "fields": ["name"], **part}
    found = [problem for problem in validate_document(record)[1] if "looks sensitive" in problem.message]
    assert [problem.path for problem in found] == paths
    assert all(
        f"Remove it from '{problem.key}', or name it in 'sensitive' as well" in problem.message for problem in found
    )
    confirmed = validate_document({**record, "sensitive": ["secret_token"]})[1]
    assert [problem for problem in confirmed if "sensitive" in problem.message] == []
    assert not any("sensitive" in problem.message for problem in validate_document(record, python=True)[1])


def test_all_fields_leave_out_the_sensitive_ones():
    """Neither ``"__all__"`` nor an exclusion sends a password unless it is named."""
    for record in ({**USER, "fields": "__all__"}, {"stream": "users", "model": "auth.User", "exclude": ["email"]}):
        assert texts(record) == []
        assert "password" not in names(bound_fields(User, BindingSpec.from_dict(record)))
        exposing = {**record, "sensitive": ["password"]}
        assert texts(exposing) == []
        assert "password" in names(bound_fields(User, BindingSpec.from_dict(exposing)))


def test_an_exclusion_beats_sensitive():
    """An excluded field is never sent."""
    spec = BindingSpec("users", "auth.User", exclude=("password",), sensitive=("password",))
    assert "password" not in names(bound_fields(User, spec))


def test_a_sensitive_primary_key_is_not_bound_by_accident():
    """Every frame has the key, so sessions cannot be bound, nor can relations to them, which hold the same value."""
    [text] = texts({"stream": "sessions", "model": "sessions.Session", "fields": ["expire_date"]})
    assert text == (
        "$.model: Binding 'sessions': the primary key 'session_key' of sessions.Session looks sensitive and "
        "would be "
        'sent with every frame. Bind another model, or add "sensitive": ["session_key"] if it is to be sent.'
    )
    with isolate_apps("tests"):

        class Visit(models.Model):
            session = models.ForeignKey(Session, models.CASCADE)
            page = models.TextField()

            class Meta:
                app_label = "example"

    assert names(bound_fields(Visit, BindingSpec("visits", "example.Visit", fields="__all__"))) == ["page"]  # type: ignore[arg-type]

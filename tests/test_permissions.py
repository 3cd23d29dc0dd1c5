"""The user of a connection, and what ends that connection."""

from __future__ import annotations

from datetime import timedelta
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.models import AnonymousUser, User
from django.contrib.sessions.backends.base import SessionBase
from django.contrib.sessions.models import Session
from django.test import Client, override_settings
from django.utils import timezone
from django.utils.functional import SimpleLazyObject

from declbind.audiences import has_codename
from declbind.inbound import permissions
from declbind.inbound.permissions import Identity
from tests.factories import GroupFactory, UserFactory, find_permission, make_user

pytestmark = pytest.mark.django_db

ENGINES = [
    "django.contrib.sessions.backends.db",
    "django.contrib.sessions.backends.cached_db",
    "django.contrib.sessions.backends.cache",
]


def log_in(user: User) -> SessionBase:
    """Return a session store that logged the user in."""
    client = Client()
    client.force_login(user)
    key = client.cookies[settings.SESSION_COOKIE_NAME].value
    store: SessionBase = import_module(settings.SESSION_ENGINE).SessionStore(key)
    return store


def connect(user: User | AnonymousUser | None, session: SessionBase | None = None) -> Identity:
    """Return the identity of a connection, whose scope is lazy as in Channels."""
    scope: dict[str, object] = {"user": SimpleLazyObject(lambda: user)}
    if session is not None:
        scope["session"] = session
    return permissions.identify(scope, "c1")


def test_the_identity_holds_what_can_end_a_session_login():
    """It has the key, the hash and the backend of the session, and the user's key as text."""
    user = UserFactory.create(username="ann")
    session = log_in(user)
    identity = connect(user, session)
    assert identity == Identity(
        user_pk=str(user.pk),
        session_key=session.session_key,
        session_hash=user.get_session_auth_hash(),
        backend="django.contrib.auth.backends.ModelBackend",
        connection_id="c1",
        username="ann",
    )


@pytest.mark.parametrize(
    "scope",
    [
        {},
        {"user": None},
        {"user": AnonymousUser()},
        {"user": AnonymousUser(), "session": {}},
        {"user": SimpleNamespace(is_authenticated=True, pk=None)},
    ],
)
def test_a_connection_without_a_user_is_anonymous(scope):
    """This covers no middleware, no login, and a user without a row. Such a connection stays current."""
    identity = permissions.identify(scope, "c1")
    assert identity == Identity(connection_id="c1")
    assert permissions.is_current(identity)
    assert permissions.load_user(identity).is_anonymous


def test_two_connections_without_an_id_do_not_share_one():
    """An empty id is replaced, because anonymous idempotency keys belong to it."""
    assert permissions.identify({}, "").connection_id != permissions.identify({}, "").connection_id != ""


def test_a_session_of_another_user_cannot_end_the_connection():
    """The token names the user, and the cookie belongs to another login."""
    ann, bob = UserFactory.create(), UserFactory.create()
    identity = connect(ann, log_in(bob))
    assert (identity.user_pk, identity.session_key) == (str(ann.pk), None)


def test_the_user_is_loaded_again_each_time():
    """A permission that was just granted or removed counts."""
    user = make_user("zoo.change_animal")
    identity = connect(user)
    assert has_codename(permissions.load_user(identity), "zoo.change_animal")
    user.user_permissions.clear()
    assert not has_codename(permissions.load_user(identity), "zoo.change_animal")
    group = GroupFactory.create()
    group.permissions.add(find_permission("zoo.change_animal"))
    user.groups.add(group)
    assert has_codename(permissions.load_user(identity), "zoo.change_animal")


def test_loading_a_cached_user_would_be_caught():
    """Negative control: the user object of the scope keeps its cached permissions."""
    user = make_user("zoo.change_animal")
    assert user.has_perm("zoo.change_animal")
    user.user_permissions.clear()
    assert user.has_perm("zoo.change_animal")


def logout(user, session):
    session.flush()


def deactivate(user, session):
    user.is_active = False
    user.save()


def change_password(user, session):
    user.set_password("another")
    user.save()


def log_in_as_another(user, session):
    other = UserFactory.create()
    session[SESSION_KEY] = str(other.pk)
    session[HASH_SESSION_KEY] = other.get_session_auth_hash()
    session.save()


ENDS = [logout, deactivate, lambda user, session: user.delete(), change_password, log_in_as_another]


def check_ends(judge: Any, end: Any) -> None:
    """Assert that `judge` accepts a login before `end`, and refuses it afterwards."""
    user = UserFactory.create()
    session = log_in(user)
    identity = connect(user, session)
    assert judge(identity)
    end(user, session)
    assert not judge(identity)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("end", ENDS)
def test_fault_13_the_end_of_a_login_ends_the_connection(engine, end):
    """Logout, a new password, deactivation, deletion and another login in the session each end it."""
    with override_settings(SESSION_ENGINE=engine):
        check_ends(permissions.is_current, end)


@pytest.mark.parametrize(
    ("end", "judge"),
    [
        (logout, lambda identity: permissions.load_user(identity).is_authenticated),
        (change_password, lambda identity: permissions.load_user(identity).is_authenticated),
        (deactivate, lambda identity: bool(permissions._session_holds(identity, UserFactory.build()))),
    ],
)
def test_checking_the_user_or_the_session_alone_would_be_caught(end, judge):
    """Negative control: a check of the user alone misses the session, and the reverse."""
    with pytest.raises(AssertionError):
        check_ends(judge, end)


def test_an_expired_session_ends_the_connection():
    """No other event is needed."""
    user = UserFactory.create()
    session = log_in(user)
    identity = connect(user, session)
    Session.objects.filter(session_key=session.session_key).update(expire_date=timezone.now() - timedelta(seconds=1))
    assert not permissions.is_current(identity)
    assert not Session.objects.filter(expire_date__gt=timezone.now()).exists(), "asking made a session"


def test_a_rotated_secret_key_keeps_the_connection():
    """A hash made with a key of SECRET_KEY_FALLBACKS is valid, and is not valid without the fallback."""
    user = UserFactory.create()
    identity = connect(user, log_in(user))
    with override_settings(SECRET_KEY="new", SECRET_KEY_FALLBACKS=[settings.SECRET_KEY]):
        assert permissions.is_current(identity)
    with override_settings(SECRET_KEY="new"):
        assert not permissions.is_current(identity)


def test_a_session_without_a_hash_is_refused():
    """Django does not accept such a session as a login, and neither do sockets."""
    user = UserFactory.create()
    session = log_in(user)
    del session[HASH_SESSION_KEY]
    session.save()
    assert not permissions.is_current(connect(user, session))


def test_a_login_backend_that_was_removed_ends_the_connection():
    """A login by a backend that is no longer trusted has ended, as in Django."""
    user = UserFactory.create()
    session = log_in(user)
    session[BACKEND_SESSION_KEY] = "retired.Backend"
    session.save()
    assert not permissions.is_current(connect(user, session))


def test_without_a_session_only_the_user_counts():
    """A token login is current until the user is gone. A new password does not affect it."""
    user = UserFactory.create()
    identity = connect(user)
    change_password(user, None)
    assert permissions.is_current(identity)
    deactivate(user, None)
    assert not permissions.is_current(identity)
    assert permissions.load_user(identity).is_anonymous


@pytest.mark.parametrize("user_pk", ["999999", "not a number", "1e400", ""])
def test_a_key_without_a_user_gives_no_user(user_pk):
    """Any content of the identity gives a user or none."""
    assert permissions.load_user(Identity(user_pk=user_pk)).is_anonymous
    assert not permissions.is_current(Identity(user_pk=user_pk))


def test_a_digest_does_not_disclose_the_session():
    """The digest in events is stable, different for each session, and empty without one."""
    digest = permissions.session_digest("abc")
    assert digest == permissions.session_digest("abc") != permissions.session_digest("abd")
    assert "abc" not in digest
    assert permissions.session_digest(None) == permissions.session_digest("") == ""

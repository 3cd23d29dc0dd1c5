"""The ways in which a user loses the permission to view, each as a function of that user, in one transaction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from importlib import import_module
from typing import Any

from django.conf import settings
from django.contrib.auth.models import Group, Permission, User
from django.contrib.sessions.models import Session
from django.test import Client as Browser

from declbind import recheck
from declbind.inbound.blocks import block
from declbind.inbound.revocation import kick
from declbind.models import BindingRecord
from declbind.testing import Client
from declbind.tokens import issue
from tests.factories import find_permission, make_user

VIEW = "example.view_integervalue"
RECORD = {
    "stream": "numbers",
    "model": "example.IntegerValue",
    "fields": ["name", "value"],
    "groups": ["name-{name}"],
}


@dataclass
class Victim:
    """A user with a login in a browser and a socket, who has the permission to view directly or by a group."""

    user: User
    browser: Browser
    group: Group
    holds: str
    connection: str = ""
    session_key: str = field(init=False)

    def __post_init__(self) -> None:
        self.session_key = self.browser.session.session_key or ""

    def client(self, credential: str = "session") -> Client:
        """Return a client with the session of the browser, or with a token."""
        if credential == "token":
            return Client(token=issue(self.user))
        store = import_module(settings.SESSION_ENGINE).SessionStore
        return Client(user=self.user, session=store(self.session_key))


def make_victim(holds: str) -> Victim:
    """Store a user who has the permission to view by `user`, `group` or `superuser`, and log in."""
    user = make_user(*([VIEW] if holds == "user" else []), is_superuser=holds == "superuser")
    group = Group.objects.create(name=f"readers of {user.username}")
    if holds == "group":
        group.permissions.add(find_permission(VIEW))
        user.groups.add(group)
    browser = Browser()
    browser.force_login(user)
    return Victim(user, browser, group, holds)


def _set_password(victim: Victim) -> None:
    victim.user.set_password("another")
    victim.user.save()


def _save(**values: Any) -> Callable[[Victim], object]:
    def save(victim: Victim) -> None:
        for name, value in values.items():
            setattr(victim.user, name, value)
        victim.user.save(update_fields=list(values))

    return save


def _bulk_update(victim: Victim) -> None:
    victim.user.is_active = False
    User.objects.bulk_update([victim.user], ["is_active"])


def _edit(**changes: Any) -> Callable[[Victim], object]:
    def edit(victim: Victim) -> None:
        record = BindingRecord.objects.get(stream=RECORD["stream"])
        record.assign({**record.definition(), **changes}).save()

    return edit


def _records() -> Any:
    return BindingRecord.objects.filter(stream=RECORD["stream"])


@dataclass(frozen=True)
class Loss:
    """A way to lose the permission.

    Attributes:
        lose: Carries it out.
        holds: By what the right is held before.
        is_for_all: Whether everybody else loses it as well.
        is_of_session: Whether a connection by a token keeps it.
        is_of_connection: Whether the user's other connections keep it.
    """

    lose: Callable[[Victim], object]
    holds: str = "user"
    is_for_all: bool = False
    is_of_session: bool = False
    is_of_connection: bool = False


LOSSES: dict[str, Loss] = {
    # the session
    "log out": Loss(lambda victim: victim.browser.logout(), is_of_session=True),
    "flush the session": Loss(lambda victim: victim.browser.session.flush(), is_of_session=True),
    "delete the session's row": Loss(
        lambda victim: Session.objects.get(pk=victim.session_key).delete(), is_of_session=True
    ),
    "delete sessions of a query": Loss(
        lambda victim: Session.objects.filter(pk=victim.session_key).delete(), is_of_session=True
    ),
    # the user
    "change the password": Loss(_set_password),
    "deactivate": Loss(_save(is_active=False)),
    "deactivate by update()": Loss(lambda victim: User.objects.filter(pk=victim.user.pk).update(is_active=False)),
    "deactivate by bulk_update()": Loss(_bulk_update),
    "delete the user": Loss(lambda victim: victim.user.delete()),
    "delete users of a query": Loss(lambda victim: User.objects.filter(pk=victim.user.pk).delete()),
    "take superuser status": Loss(_save(is_superuser=False), holds="superuser"),
    # permissions
    "clear the permissions": Loss(lambda victim: victim.user.user_permissions.clear()),
    "remove the permission": Loss(lambda victim: victim.user.user_permissions.remove(find_permission(VIEW))),
    "set other permissions": Loss(lambda victim: victim.user.user_permissions.set([])),
    "remove the user from the permission": Loss(lambda victim: find_permission(VIEW).user_set.remove(victim.user)),
    "leave the group": Loss(lambda victim: victim.user.groups.clear(), holds="group"),
    "be removed from the group": Loss(lambda victim: victim.group.user_set.remove(victim.user), holds="group"),
    "set other groups": Loss(lambda victim: victim.user.groups.set([]), holds="group"),
    "clear the group's users": Loss(lambda victim: victim.group.user_set.clear(), holds="group"),
    "clear the group's permissions": Loss(lambda victim: victim.group.permissions.clear(), holds="group"),
    "remove the group's permission": Loss(
        lambda victim: victim.group.permissions.remove(find_permission(VIEW)), holds="group"
    ),
    "remove the group from the permission": Loss(
        lambda victim: find_permission(VIEW).group_set.remove(victim.group), holds="group"
    ),
    "delete the group": Loss(lambda victim: victim.group.delete(), holds="group"),
    "delete groups of a query": Loss(lambda victim: Group.objects.filter(pk=victim.group.pk).delete(), holds="group"),
    "delete the permission": Loss(lambda victim: find_permission(VIEW).delete(), is_for_all=True),
    "rename the permission": Loss(
        lambda victim: Permission.objects.filter(pk=find_permission(VIEW).pk).update(codename="look_at"),
        is_for_all=True,
    ),
    # operators
    "kick the user": Loss(lambda victim: kick(user=victim.user)),
    "kick the connection": Loss(lambda victim: kick(connection=victim.connection), is_of_connection=True),
    "block the user": Loss(lambda victim: block(str(victim.user.pk), timedelta(minutes=1))),
    "ask for a check": Loss(lambda victim: _take_unseen(victim)),
    # the binding
    "disable the binding": Loss(_edit(enabled=False), is_for_all=True),
    "disable bindings of a query": Loss(lambda victim: _records().update(enabled=False), is_for_all=True),
    "remove the binding": Loss(lambda victim: _records().get().delete(), is_for_all=True),
    "let nobody view": Loss(_edit(permissions={"view": False}), is_for_all=True),
    "ask for another permission": Loss(
        _edit(permissions={"view": "example.delete_integervalue"}), is_for_all=True
    ),
    "let staff view": Loss(_edit(permissions={"view": "staff"}), is_for_all=True),
    "close the direction": Loss(_edit(direction="inbound"), is_for_all=True),
    "name other groups": Loss(_edit(groups=["value-{value}"]), is_for_all=True),
    "give each user a scope": Loss(_edit(scope={"name": "$user.first_name"}, writable=[]), is_for_all=True),
}  # fmt: skip


def _take_unseen(victim: Victim) -> None:
    # Raw rows of a many-to-many table leave no signal, so only the call says so.
    through = User.user_permissions.through
    through.objects.filter(user=victim.user)._raw_delete("default")
    recheck([victim.user])

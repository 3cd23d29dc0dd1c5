"""django-guardian: permissions of single rows, given one by one and in bulk."""

from __future__ import annotations

from django.contrib.auth.models import Group, User
from django.db import models
from guardian.shortcuts import assign_perm, remove_perm
from guardian.utils import clean_orphan_obj_perms

from tests.guests.steps import Steps


class Item(models.Model):
    title = models.CharField(max_length=50)
    room = models.IntegerField(default=1)


def make(title, room):
    return Item.objects.create(title=title, room=room)


RECORDS = [
    {"stream": "users", "model": "guardian.UserObjectPermission", "fields": ["user", "permission", "object_pk"]},
    {"stream": "groups", "model": "guardian.GroupObjectPermission", "fields": ["group", "permission", "object_pk"]},
]
step = Steps()


@step
def one_permission():
    user, _ = User.objects.get_or_create(username="reader")
    assign_perm("view_item", user, make("guarded", 1))


@step
def permissions_in_bulk():
    user = User.objects.get(username="reader")
    group, _ = Group.objects.get_or_create(name="readers")
    for number in range(2):
        make(f"guarded {number}", 1)
    rows = Item.objects.filter(title__startswith="guarded ")
    assign_perm("change_item", user, rows)
    assign_perm("change_item", group, rows)


@step
def permissions_removed():
    user = User.objects.get(username="reader")
    remove_perm("view_item", user, Item.objects.get(title="guarded"))
    remove_perm("change_item", user, Item.objects.filter(title__startswith="guarded "))


@step
def orphans_removed():
    Item.objects.filter(title__startswith="guarded").delete()
    clean_orphan_obj_perms()


@step
def user_deleted():
    row = make("guarded", 1)
    user = User.objects.get(username="reader")
    assign_perm("view_item", user, row)
    user.delete()

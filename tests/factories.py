"""Factories of users, groups and the rows of the zoo."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group, Permission
from factory.declarations import Sequence
from factory.django import DjangoModelFactory, Password

from tests.zoo import models

PASSWORD = "let-me-in"


class UserFactory(DjangoModelFactory):
    class Meta:
        model = get_user_model()
        skip_postgeneration_save = True

    username = Sequence(lambda number: f"user{number}")
    password = Password(PASSWORD)


class GroupFactory(DjangoModelFactory):
    class Meta:
        model = Group

    name = Sequence(lambda number: f"group{number}")


class KeeperFactory(DjangoModelFactory):
    class Meta:
        model = models.Keeper

    name = Sequence(lambda number: f"Keeper {number}")


class FoodFactory(DjangoModelFactory):
    class Meta:
        model = models.Food

    name = Sequence(lambda number: f"Food {number}")


class AnimalFactory(DjangoModelFactory):
    class Meta:
        model = models.Animal

    name = Sequence(lambda number: f"Animal {number}")


class SampleFactory(DjangoModelFactory):
    class Meta:
        model = models.Sample


def find_permission(codename: str) -> Permission:
    """Return the permission of ``app_label.codename``."""
    app_label, _, name = codename.partition(".")
    return Permission.objects.get(content_type__app_label=app_label, codename=name)


def make_user(*codenames: str, **values: object) -> Any:
    """Return a stored user who holds these permissions."""
    user = UserFactory.create(**values)
    user.user_permissions.set(map(find_permission, codenames))
    return user

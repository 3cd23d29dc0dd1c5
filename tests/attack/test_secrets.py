"""Models that give permissions or hold secrets: they are recognised by base, table, label and the setting."""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AbstractUser, Group, Permission, User
from django.contrib.sessions.base_session import AbstractBaseSession
from django.db import models
from django.test.utils import isolate_apps

from declbind import rights_models
from declbind.console import openings
from declbind.core.spec import BindingSpec
from declbind.exposure import PLACES, exposed_fields
from declbind.fields import is_sensitive_field
from declbind.rights_models import is_rights_column, is_rights_model, is_secret_model, withheld_reason
from tests.zoo.models import Animal, Keeper

#: The abstract bases of packages that need not be installed.
PACKAGE_BASES = [
    ("rest_framework.authtoken.models", "Token"),
    ("knox.models", "AbstractAuthToken"),
    ("oauth2_provider.models", "AbstractAccessToken"),
    ("oauth2_provider.models", "AbstractRefreshToken"),
    ("oauth2_provider.models", "AbstractGrant"),
    ("django_otp.models", "Device"),
    ("django_otp.plugins.otp_static.models", "StaticToken"),
    ("allauth.mfa.models", "Authenticator"),
    ("allauth.socialaccount.models", "SocialToken"),
    ("rest_framework_simplejwt.token_blacklist.models", "OutstandingToken"),
]


def make(name: str, /, *bases: type, module: str = __name__, label: str = "zoo", **members: Any) -> Any:
    """Return a new model; ``module`` is the module that it pretends to come from."""
    meta = type("Meta", (), {"app_label": label, **members.pop("meta", {})})
    return type(name, bases or (models.Model,), {"__module__": module, "Meta": meta, **members})


@pytest.mark.parametrize(("module", "name"), PACKAGE_BASES)
def test_a_model_that_inherits_from_a_package_of_secrets_is_one(module, name):
    """The package is not imported; the same class from a module of the project is the control."""
    with isolate_apps("tests.zoo"):
        for source, is_secret in ((module, True), ("shop.models", False)):
            base = make(name, module=source, meta={"abstract": True}, code=models.CharField(max_length=40))
            own = make(f"Own{is_secret}", base, module="shop.models", made=models.DateTimeField(null=True))
            fields = {field.name: is_sensitive_field(field) for field in own._meta.fields}
            assert fields == {"id": False, "code": is_secret, "made": False}, source
            assert (is_secret_model(own), is_rights_model(own)) == (is_secret, is_secret)


def test_a_model_is_recognised_by_its_label():
    """A project may have the package's models in a package of its own."""
    with isolate_apps("tests.zoo"):
        token = make("Token", label="authtoken", key=models.CharField(max_length=40, primary_key=True))
        assert is_secret_model(token)
        assert is_sensitive_field(token._meta.pk)
        other = make("Token", label="shop", key=models.CharField(max_length=40, primary_key=True))
        assert not is_secret_model(other)
        # A foreign key to it would send the key.
        reader = make("Reader", token=models.ForeignKey(token, on_delete=models.CASCADE, related_name="+"))
        renamed = make("Renamed", by=models.ForeignKey(token, on_delete=models.CASCADE, related_name="+"))
        assert is_sensitive_field(reader._meta.get_field("token"))
        assert is_sensitive_field(renamed._meta.get_field("by"))


@pytest.mark.parametrize("label", sorted(rights_models.SECRET_LABELS | rights_models.RIGHTS_LABELS))
def test_each_label_of_the_lists_counts(label):
    """Labels are recognised in any case."""
    app_label, _, name = label.partition(".")
    with isolate_apps("tests.zoo"):
        assert is_rights_model(make(name.capitalize(), label=app_label))


def test_user_models_are_recognised(settings):
    """They may be proxies, children, custom users, and the user model of the settings."""
    with isolate_apps("django.contrib.auth", "django.contrib.contenttypes", "tests.zoo"):
        proxy = make("Person", User, meta={"proxy": True})
        child = make("Member", User, note=models.CharField(max_length=10))
        custom = make("Custom", AbstractUser, groups=None, user_permissions=None)
        plain = make("Plain", name=models.CharField(max_length=10))
        assert [is_rights_model(model) for model in (proxy, child, custom, plain)] == [True, True, True, False]
        settings.AUTH_USER_MODEL = "zoo.Plain"
        assert is_rights_model(plain)


def test_tables_of_lists_and_rows_that_name_a_permission_count():
    """A row of either gives a permission."""
    assert is_rights_model(User.groups.through)
    assert is_rights_model(Group.permissions.through)
    assert not is_rights_model(Animal.foods.through)
    with isolate_apps("tests.zoo"):
        grant = make("Grant", permission=models.ForeignKey(Permission, on_delete=models.CASCADE, related_name="+"))
        assert is_rights_model(grant)


@pytest.mark.parametrize("table", ["auth_user", "AUTH_USER", '"public"."auth_user"', "public.auth_user"])
def test_a_second_model_of_the_same_table_counts(table):
    """The spelling of its table does not matter."""
    with isolate_apps("django.contrib.auth", "django.contrib.contenttypes", "tests.zoo"):
        shadow = make("Shadow", code=models.CharField(max_length=9), meta={"db_table": table, "managed": False})
        make("Known", AbstractUser, groups=None, user_permissions=None, meta={"db_table": "auth_user"})
        assert is_rights_model(shadow)
        meta = {"db_table": table, "managed": False}
        hidden = make("Hidden", code=models.CharField(max_length=9, db_column="password"), meta=meta)
        assert withheld_reason(hidden._meta.get_field("code")) == "passwords"


def test_a_parent_of_a_user_counts():
    """Its rows are part of the users' rows; a sibling's are not."""
    with isolate_apps("django.contrib.auth", "django.contrib.contenttypes", "tests.zoo"):
        party = make("Party", address=models.CharField(max_length=9))
        assert not is_rights_model(party)
        company = make("Company", party)
        make("Login", party, AbstractBaseUser, code=models.CharField(max_length=9))
        assert is_rights_model(party)
        assert not is_rights_model(company)


def test_columns_that_give_permissions_are_recognised():
    """Their names and the targets of relations decide."""
    with isolate_apps("tests.zoo"):
        profile = make(
            "Profile",
            is_staff=models.BooleanField(default=False),
            teams=models.ManyToManyField(Group, related_name="+"),
            main=models.ForeignKey(Group, on_delete=models.CASCADE, related_name="+"),
            keeper=models.ForeignKey(Keeper, on_delete=models.CASCADE, related_name="+"),
            is_active=models.BooleanField(default=True),
        )
        found = {name for name in ("is_staff", "teams", "main", "keeper", "is_active")
                 if is_rights_column(profile._meta.get_field(name))}  # fmt: skip
        assert found == {"is_staff", "teams", "main"}
        assert not is_rights_model(profile)


def test_session_keys_and_passwords_are_withheld():
    """In any model, and through a relation too; a date beside a password does not count."""
    with isolate_apps("tests.zoo"):
        session = make("Visit", AbstractBaseSession)
        door = make(
            "Door",
            admin_password=models.CharField(max_length=9),
            password_changed=models.DateTimeField(),
            pwd=models.TextField(),
            session_key=models.CharField(max_length=40),
            visit=models.ForeignKey(session, on_delete=models.CASCADE, related_name="+"),
            token=models.CharField(max_length=9),
        )
        reasons = {field.name: withheld_reason(field) for field in door._meta.fields}
        assert withheld_reason(session._meta.pk) == "session keys"
        assert withheld_reason(session._meta.get_field("session_data")) == "session keys"
        assert withheld_reason(session._meta.get_field("expire_date")) == ""
    assert reasons == {
        "id": "", "admin_password": "passwords", "password_changed": "", "pwd": "passwords",
        "session_key": "session keys", "visit": "session keys", "token": "",
    }  # fmt: skip


def test_the_setting_adds_models(settings):
    """In any case of letters; a proxy of a named model counts as well."""
    document = {"stream": "keepers", "model": "zoo.Keeper", "fields": [], "permissions": {"view": True}}
    assert not is_rights_model(Keeper)
    settings.DECLBIND = {**settings.DECLBIND, "RIGHTS_MODELS": ["zoo.KEEPER"]}
    assert is_rights_model(Keeper)
    asked = {right for opening in openings.find_openings(None, document) for right in opening.permissions}
    assert openings.BIND_RIGHTS_MODELS in asked
    with isolate_apps("tests.zoo"):
        assert is_rights_model(make("Warden", Keeper, meta={"proxy": True}))


def test_no_package_is_imported_to_know_its_models():
    """The names in the lists are compared, never imported."""
    before = set(sys.modules)
    assert is_rights_model(User)
    assert isinstance(rights_models, types.ModuleType)
    assert {name for name in set(sys.modules) - before if name.startswith(rights_models.SECRET_PACKAGES)} == set()


def test_every_place_of_a_record_is_checked(monkeypatch):
    """A place that is removed from the list exposes undetected: the control of the tests of secrets."""
    spec = BindingSpec(
        "animals", "zoo.Animal", fields=("name",), groups=("of-{status}-{owner_id}",), where={"secret_token": "x"},
        scope={"owner_id": "$user.pk"},
    )  # fmt: skip
    found = [(item.path, item.name) for item in exposed_fields(Animal, spec)]
    assert found == [
        ("$.model", "id"), ("$.fields[0]", "name"), ("$.groups[0]", "status"), ("$.groups[0]", "owner"),
        ("$.where.secret_token", "secret_token"), ("$.scope.owner_id", "owner"),
    ]  # fmt: skip
    monkeypatch.setattr("declbind.exposure.PLACES", PLACES[:2])
    assert not any(item.is_sensitive for item in exposed_fields(Animal, spec))

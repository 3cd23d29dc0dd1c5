"""Models and columns that give permissions, contain secrets, or cannot be sent by bindings stored in the admin.

There are three categories of models and columns:

- a *rights model* decides who may do what (users, groups, permissions, tokens), or records it (the admin's log);
- a *secret model* contains credentials (tokens, one-time-password devices, sessions);
- a *withheld* column may not be exposed by any operator: passwords, session keys, and declbind's own tables.

Models are recognised by their base classes, by the table that they share, and by their label. No package is imported
for this: if the package is installed, the classes exist already.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from django.apps import apps
from django.conf import settings as django_settings
from django.db import models
from django.db.models import Model
from django.db.models.fields.related import RelatedField

from declbind.conf import settings
from declbind.core.sentences import Sentence
from declbind.core.sentences import Sentence as _
from declbind.django_types import Column

#: Classes whose subclasses decide or record what users may do.
RIGHTS_BASES = frozenset(
    {
        "django.contrib.admin.models.LogEntry",
        "django.contrib.auth.base_user.AbstractBaseUser",
        "django.contrib.auth.models.Group",
        "django.contrib.auth.models.Permission",
        "django.contrib.auth.models.PermissionsMixin",
        "django.contrib.contenttypes.models.ContentType",
        "django.contrib.sessions.base_session.AbstractBaseSession",
    }
)
#: Classes whose relations give permissions to the row that has them.
GRANTING_BASES = frozenset({"django.contrib.auth.models.Group", "django.contrib.auth.models.Permission"})
PERMISSION_BASE = "django.contrib.auth.models.Permission"
SESSION_BASE = "django.contrib.sessions.base_session.AbstractBaseSession"
#: Packages in which all models decide what users may do.
RIGHTS_PACKAGES = ("django.contrib.auth", "guardian")
#: Packages in which all models contain credentials.
SECRET_PACKAGES = (
    "allauth",
    "django_otp",
    "drfpasswordless",
    "knox",
    "mfa",
    "oauth2_provider",
    "oidc_provider",
    "otp_yubikey",
    "rest_framework.authtoken",
    "rest_framework_api_key",
    "rest_framework_simplejwt",
    "social_django",
    "tastypie",
    "two_factor",
)
#: The same models by label, for a project that has its own copy of the package.
SECRET_LABELS = frozenset(
    {
        "account.emailaddress",
        "account.emailconfirmation",
        "authtoken.token",
        "authtoken.tokenproxy",
        "knox.authtoken",
        "mfa.authenticator",
        "oauth2_provider.accesstoken",
        "oauth2_provider.application",
        "oauth2_provider.grant",
        "oauth2_provider.idtoken",
        "oauth2_provider.refreshtoken",
        "otp_email.emaildevice",
        "otp_hotp.hotpdevice",
        "otp_static.staticdevice",
        "otp_static.statictoken",
        "otp_totp.totpdevice",
        "otp_yubikey.remoteyubikeydevice",
        "otp_yubikey.yubikeydevice",
        "rest_framework_api_key.apikey",
        "sessions.session",
        "socialaccount.socialaccount",
        "socialaccount.socialapp",
        "socialaccount.socialtoken",
        "token_blacklist.blacklistedtoken",
        "token_blacklist.outstandingtoken",
        "two_factor.phonedevice",
        "user_sessions.session",
        "usersessions.usersession",
    }
)
RIGHTS_LABELS = frozenset({"guardian.groupobjectpermission", "guardian.userobjectpermission"})
#: Columns that give permissions in any model.
RIGHTS_COLUMNS = frozenset({"is_superuser", "is_staff", "is_admin", "user_permissions"})
#: Types of columns that contain no secret even in a secret model. For relations, the related model counts.
_HARMLESS = (models.DateField, models.TimeField, models.DurationField, models.BooleanField)
_NUMBERS = (models.IntegerField, models.FloatField, models.DecimalField)
_PASSWORD = re.compile(r"passw(or)?d|passphrase|passcode|(^|_)pwd(_|$)", re.IGNORECASE)
_SESSION_KEY = re.compile(r"session_?(key|data)", re.IGNORECASE)


def is_rights_model(model: type[Model]) -> bool:
    """Return whether rows of a model decide or record what users may do. Secret models are included."""
    return any(_gives_rights(relative) for relative in _relatives(model))


def is_secret_model(model: type[Model]) -> bool:
    """Return whether rows of a model contain credentials: tokens, devices, sessions."""
    return any(_holds_secrets(relative) for relative in _relatives(model))


def is_rights_column(field: Column) -> bool:
    """Return whether a column, or a list of related rows, gives permissions to its row."""
    if field.name in RIGHTS_COLUMNS:
        return True
    target = _related_model(field)
    return target is not None and any(not GRANTING_BASES.isdisjoint(_names(cls)) for cls in _relatives(target))


def is_secret_column(field: Column) -> bool:
    """Return whether a column belongs to a secret model and has a type that may contain the secret."""
    value = value_field(field)
    if isinstance(value, (*_HARMLESS, models.AutoField, models.BigAutoField)):
        return False
    return is_secret_model(value.model)


def value_field(field: Column) -> Column:
    """Return the column with the values of a field. For a relation, this is the column that it refers to."""
    for _step in range(10):  # A key may be a relation itself, as in a child model.
        target = _related_model(field)
        if target is None:
            break
        field = field.target_field if isinstance(field, RelatedField) and not field.many_to_many else target._meta.pk
    return field


def withheld_reason(field: Column) -> Sentence | str:
    """Return the content of a column that no stored binding may expose, such as ``"passwords"``, or ``""``.

    For a relation, the column that it refers to counts.
    """
    field = value_field(field)
    if field.model._meta.app_label == "declbind":
        return _("declbind's own data")
    if isinstance(field, (*_HARMLESS, *_NUMBERS)):
        return ""
    if _PASSWORD.search(field.name):
        return _("passwords")
    if _SESSION_KEY.search(field.name) or any(SESSION_BASE in _names(cls) for cls in _relatives(field.model)):
        return _("session keys")
    # The same column may have another name in a model that shares the table.
    namesakes = (twin for cls in _relatives(field.model) for twin in cls._meta.local_concrete_fields)
    if any(twin.column == field.column and _PASSWORD.search(twin.name) for twin in namesakes):
        return _("passwords")
    return ""


def unknown_labels(labels: Sequence[str]) -> list[str]:
    """Return the labels of which no model is installed."""
    known = {model._meta.label_lower for model in apps.get_models(include_auto_created=True)}
    return [label for label in labels if str(label).lower() not in known]


def _gives_rights(model: type[Model]) -> bool:
    if _holds_secrets(model) or model._meta.app_label == "declbind" or not RIGHTS_BASES.isdisjoint(_names(model)):
        return True
    # The setting is read again here, so that a change takes effect at once.
    wanted = {str(label).lower() for label in settings.RIGHTS_MODELS} | RIGHTS_LABELS
    wanted.add(django_settings.AUTH_USER_MODEL.lower())
    if not wanted.isdisjoint(_labels(model)) or _comes_from(model, RIGHTS_PACKAGES):
        return True
    # The table of a many-to-many list contains the entries of the list.
    owner: object = model._meta.auto_created
    if isinstance(owner, type) and issubclass(owner, Model) and is_rights_model(owner):
        return True
    # A row that refers to a permission grants it.
    targets = (_related_model(field) for field in model._meta.local_concrete_fields)
    return any(target is not None and PERMISSION_BASE in _names(target) for target in targets)


def _holds_secrets(model: type[Model]) -> bool:
    return (
        SESSION_BASE in _names(model)
        or not SECRET_LABELS.isdisjoint(_labels(model))
        or _comes_from(model, SECRET_PACKAGES)
    )


def _relatives(model: type[Model]) -> Sequence[type[Model]]:
    """Return the model, models that share its table or a parent's, and models whose rows are partly in its table."""
    return _find_relatives(tuple(model._meta.apps.get_models(include_auto_created=True)), model)


@lru_cache(maxsize=1024)
def _find_relatives(installed: tuple[type[Model], ...], model: type[Model]) -> tuple[type[Model], ...]:
    own = (model, *model._meta.get_parent_list())
    tables = {_table_of(base) for base in own}
    sharing = (other for other in installed if _table_of(other) in tables)
    children = (other for other in installed if model in other._meta.get_parent_list())
    return tuple(dict.fromkeys((*own, *sharing, *children)))


def _table_of(model: type[Model]) -> str:
    # Case and quotes are ignored, because a model without migrations may name a table with its schema.
    return str(re.split(r"[.\"`]+", model._meta.db_table.strip('"`'))[-1].lower())


def _names(model: type[Model]) -> set[str]:
    return {f"{cls.__module__}.{cls.__qualname__}" for cls in model.__mro__}


def _labels(model: type[Model]) -> set[str]:
    return {
        options.label_lower
        for cls in model.__mro__
        if isinstance(options := getattr(cls, "_meta", None), models.options.Options)
    }


def _comes_from(model: type[Model], packages: tuple[str, ...]) -> bool:
    modules = {cls.__module__ for cls in model.__mro__ if issubclass(cls, Model) and cls is not Model}
    return any(module == package or module.startswith(f"{package}.") for module in modules for package in packages)


def _related_model(field: Column) -> type[Model] | None:
    remote = getattr(field.remote_field, "model", None)
    return remote if isinstance(remote, type) and issubclass(remote, Model) else None

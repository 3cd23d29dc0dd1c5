"""The user who did something, as text: no foreign key, so that users may be in another database."""

from __future__ import annotations

from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.db import models, router
from django.utils.translation import gettext_lazy as _

from declbind.django_types import User

from .columns import ExactCharField

MAX_KEY, MAX_NAME = 64, 150


def key_of(user: User | None) -> str:
    """Return the primary key of a user as text; empty for ``None`` and for an anonymous user."""
    key = getattr(user, "pk", None)
    return "" if key is None else str(key)[:MAX_KEY]


def author_values(user: User | None) -> dict[str, str]:
    """Return the values of the fields of :class:`Authored` for a user; empty for ``None`` or an anonymous user."""
    key = key_of(user)
    return {"author_pk": key, "author_name": str(user.get_username())[:MAX_NAME] if user is not None and key else ""}


class Authored(models.Model):
    """An abstract row that names its author by key and name. Both stay when the user is deleted."""

    author_pk = ExactCharField(max_length=MAX_KEY, blank=True, default="", editable=False)
    author_name = ExactCharField(_("author"), max_length=MAX_NAME, blank=True, default="", editable=False)

    class Meta:
        abstract = True

    @property
    def author(self) -> User | None:
        """Return the user, loaded at each access from the database of users, or ``None`` if there is none any more."""
        model = get_user_model()
        users = model._default_manager.using(router.db_for_read(model))
        try:
            return users.filter(pk=model._meta.pk.to_python(self.author_pk)).first() if self.author_pk else None
        except (ValidationError, ValueError):
            return None

    @author.setter
    def author(self, user: User | None) -> None:
        for name, value in author_values(user).items():
            setattr(self, name, value)

"""Groups with their permissions, and the demo's users, whose passwords are public."""

from dataclasses import dataclass

from django.conf import settings
from django.contrib.auth.models import Group, Permission, User
from django.db.models import Q


@dataclass(frozen=True)
class Account:
    """One demo user: name, password, and permissions in words."""

    username: str
    password: str
    group: str
    may: str
    is_staff: bool = False


ACCOUNTS = (
    Account("operator", "operator-demo", "operators", "admin: bindings, live traffic, all data", is_staff=True),
    Account("editor", "editor-demo", "editors", "write posts, see drafts, change the board"),
    Account("reader", "reader-demo", "readers", "read, change the board"),
)


def group_permissions(group: str) -> Q:
    """Return the permissions that a group holds."""
    post = Q(content_type__app_label="blog", content_type__model="post")
    if group == "operators":
        # All permissions on bindings except two: exposing secrets and binding users and the like take a superuser
        # here.
        apart = ("expose_sensitive", "bind_rights_models")
        bindings = Q(content_type__app_label__in=("declbind", "declbind_admin")) & ~Q(codename__in=apart)
        data = Q(content_type__app_label__in=("example", "blog", "ticker"))
        return bindings | data | Q(content_type__app_label__in=("auth", "admin"), codename__startswith="view_")
    if group == "editors":
        return post
    return post & Q(codename="view_post")


def ensure_groups() -> None:
    """Create the groups, and give each its missing permissions; others that were granted by hand stay."""
    for name in sorted({account.group for account in ACCOUNTS}):
        group, _ = Group.objects.get_or_create(name=name)
        group.permissions.add(*Permission.objects.filter(group_permissions(name)))


def ensure_users() -> None:
    """Create the missing demo users. Raises an error outside DEBUG, because their passwords are public."""
    if not settings.DEBUG:
        raise RuntimeError("The demo users have public passwords; they are made with DEBUG=True only.")
    ensure_groups()
    for account in ACCOUNTS:
        if not User.objects.filter(username=account.username).exists():
            user = User.objects.create_user(
                account.username,
                f"{account.username}@example.org",
                account.password,
                is_staff=account.is_staff,
            )
            user.groups.add(Group.objects.get(name=account.group))

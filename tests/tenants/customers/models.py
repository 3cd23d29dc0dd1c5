"""The tenants of the site, and the hosts by which they are found."""

from __future__ import annotations

from django.db import models
from django_tenants.models import DomainMixin, TenantMixin


class Tenant(TenantMixin):
    """A customer with a schema."""

    name = models.CharField(max_length=50)
    auto_drop_schema = True


class Domain(DomainMixin):
    """A host of a customer."""

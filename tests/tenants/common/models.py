"""Rows that are the same for all tenants."""

from __future__ import annotations

from django.db import models


class Country(models.Model):
    """A country, in the public schema."""

    name = models.CharField(max_length=50)

"""One column of each type that only PostgreSQL has, all of which may be empty."""

from __future__ import annotations

from django.contrib.postgres import fields
from django.contrib.postgres.search import SearchQueryField, SearchVectorField
from django.db import models


class PostgresColumn(models.Model):
    """A model without annotations of its fields' values, which are unknown where it is not installed."""

    array = fields.ArrayField(models.BigIntegerField(), null=True, blank=True)
    array_of_arrays = fields.ArrayField(
        fields.ArrayField(models.CharField(max_length=20, blank=True), size=2), null=True, blank=True
    )
    array_of_moments = fields.ArrayField(models.DateTimeField(null=True, blank=True), null=True, blank=True)
    array_of_decimals = fields.ArrayField(
        models.DecimalField(max_digits=30, decimal_places=10), size=3, null=True, blank=True
    )
    array_of_documents = fields.ArrayField(models.JSONField(), null=True, blank=True)
    big_integer_range = fields.BigIntegerRangeField(null=True, blank=True)
    date_range = fields.DateRangeField(null=True, blank=True)
    date_time_range = fields.DateTimeRangeField(null=True, blank=True)
    decimal_range = fields.DecimalRangeField(null=True, blank=True, default_bounds="[]")
    hstore = fields.HStoreField(null=True, blank=True)
    integer_range = fields.IntegerRangeField(null=True, blank=True)
    long_decimal = models.DecimalField(max_digits=1000, decimal_places=2, null=True, blank=True)
    search_query = SearchQueryField(null=True, blank=True)
    search_vector = SearchVectorField(null=True, blank=True)

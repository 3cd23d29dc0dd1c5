import django.contrib.postgres.fields
import django.contrib.postgres.fields.hstore
import django.contrib.postgres.fields.ranges
import django.contrib.postgres.search
from django.contrib.postgres.operations import HStoreExtension
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        HStoreExtension(),
        migrations.CreateModel(
            name="PostgresColumn",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "array",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.BigIntegerField(), blank=True, null=True, size=None
                    ),
                ),
                (
                    "array_of_arrays",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=django.contrib.postgres.fields.ArrayField(
                            base_field=models.CharField(blank=True, max_length=20), size=2
                        ),
                        blank=True,
                        null=True,
                        size=None,
                    ),
                ),
                (
                    "array_of_moments",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.DateTimeField(blank=True, null=True), blank=True, null=True, size=None
                    ),
                ),
                (
                    "array_of_decimals",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.DecimalField(decimal_places=10, max_digits=30), blank=True, null=True, size=3
                    ),
                ),
                (
                    "array_of_documents",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.JSONField(), blank=True, null=True, size=None
                    ),
                ),
                (
                    "big_integer_range",
                    django.contrib.postgres.fields.ranges.BigIntegerRangeField(blank=True, null=True),
                ),
                ("date_range", django.contrib.postgres.fields.ranges.DateRangeField(blank=True, null=True)),
                ("date_time_range", django.contrib.postgres.fields.ranges.DateTimeRangeField(blank=True, null=True)),
                (
                    "decimal_range",
                    django.contrib.postgres.fields.ranges.DecimalRangeField(blank=True, default_bounds="[]", null=True),
                ),
                ("hstore", django.contrib.postgres.fields.hstore.HStoreField(blank=True, null=True)),
                ("integer_range", django.contrib.postgres.fields.ranges.IntegerRangeField(blank=True, null=True)),
                ("long_decimal", models.DecimalField(blank=True, decimal_places=2, max_digits=1000, null=True)),
                ("search_query", django.contrib.postgres.search.SearchQueryField(blank=True, null=True)),
                ("search_vector", django.contrib.postgres.search.SearchVectorField(blank=True, null=True)),
            ],
        ),
    ]

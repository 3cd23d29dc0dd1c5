"""Remember which tables the log lies in."""

from django.db import migrations

import declbind.models.columns


class Migration(migrations.Migration):
    dependencies = [("declbind", "0002_no_unsequenced_index_on_sqlite")]

    operations = [
        migrations.AddField(
            model_name="head",
            name="incarnation",
            field=declbind.models.columns.ExactCharField(blank=True, default="", max_length=100),
        ),
    ]

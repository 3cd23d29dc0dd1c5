"""Delete the table by which captured writes kept triggers quiet: the hooks do not report what triggers report."""

from __future__ import annotations

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("declbind", "0006_first_rows")]
    operations = [migrations.DeleteModel("QuietTable")]

"""Keep what the console shows: connections, counts, blocks, saved views."""

from django.db import migrations, models

import declbind.models.columns


class Migration(migrations.Migration):
    dependencies = [
        ("declbind", "0003_head_incarnation"),
    ]

    operations = [
        migrations.CreateModel(
            name="StreamUse",
            fields=[
                ("stream", declbind.models.columns.ExactCharField(max_length=64, primary_key=True, serialize=False)),
                ("sent_at", models.DateTimeField(null=True)),
                ("asked_at", models.DateTimeField(null=True)),
            ],
            options={
                "db_table": "declbind_streamuse",
            },
        ),
        migrations.AddField(
            model_name="bindingrevision",
            name="source",
            field=declbind.models.columns.ExactCharField(
                blank=True,
                default="",
                help_text="The file that the record was applied or imported from.",
                max_length=200,
            ),
        ),
        migrations.AddField(
            model_name="traffic",
            name="detail",
            field=declbind.models.columns.ExactTextField(
                blank=True, default="", help_text="JSON: what else is known; shapes, never values."
            ),
        ),
        migrations.CreateModel(
            name="Activity",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("node", declbind.models.columns.ExactCharField(max_length=32)),
                ("at", models.DateTimeField()),
                ("seconds", models.PositiveSmallIntegerField()),
                ("sent", models.PositiveIntegerField(default=0)),
                ("received", models.PositiveIntegerField(default=0)),
                ("refused", models.PositiveIntegerField(default=0)),
                ("errors", models.PositiveIntegerField(default=0)),
                ("p50", models.FloatField(null=True)),
                ("p99", models.FloatField(null=True)),
                ("streams", models.JSONField(default=dict)),
                ("deliveries", models.JSONField(default=list)),
            ],
            options={
                "db_table": "declbind_activity",
                "ordering": ("at", "id"),
                "constraints": [
                    models.UniqueConstraint(fields=("seconds", "at", "node"), name="declbind_activity_once")
                ],
            },
        ),
        migrations.CreateModel(
            name="Block",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("tenant", declbind.models.columns.ExactCharField(blank=True, default="", max_length=63)),
                ("user_pk", declbind.models.columns.ExactCharField(max_length=64)),
                ("username", declbind.models.columns.ExactCharField(blank=True, default="", max_length=150)),
                ("until", models.DateTimeField()),
                ("reason", declbind.models.columns.ExactCharField(blank=True, default="", max_length=120)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                (
                    "author_pk",
                    declbind.models.columns.ExactCharField(blank=True, default="", editable=False, max_length=64),
                ),
                (
                    "author_name",
                    declbind.models.columns.ExactCharField(
                        blank=True, default="", editable=False, max_length=150, verbose_name="author"
                    ),
                ),
            ],
            options={
                "db_table": "declbind_block",
                "ordering": ("-created_at",),
                "constraints": [models.UniqueConstraint(fields=("tenant", "user_pk"), name="declbind_block_unique")],
            },
        ),
        migrations.CreateModel(
            name="Connection",
            fields=[
                ("id", declbind.models.columns.ExactCharField(max_length=32, primary_key=True, serialize=False)),
                ("node", declbind.models.columns.ExactCharField(max_length=32)),
                ("tenant", declbind.models.columns.ExactCharField(blank=True, default="", max_length=63)),
                ("user_pk", declbind.models.columns.ExactCharField(blank=True, default="", max_length=64)),
                ("username", declbind.models.columns.ExactCharField(blank=True, default="", max_length=150)),
                (
                    "address",
                    declbind.models.columns.ExactCharField(
                        blank=True, default="", help_text="Masked: the network, not the host.", max_length=64
                    ),
                ),
                (
                    "client",
                    declbind.models.columns.ExactCharField(
                        blank=True, default="", help_text="What the client calls itself.", max_length=150
                    ),
                ),
                (
                    "credential",
                    declbind.models.columns.ExactCharField(
                        blank=True,
                        default="",
                        help_text='"session", "token", "scope" (set by middleware) or "".',
                        max_length=16,
                    ),
                ),
                (
                    "credential_ends_at",
                    models.DateTimeField(help_text="When the token ends, if it does.", null=True),
                ),
                ("opened_at", models.DateTimeField()),
                ("closed_at", models.DateTimeField(null=True)),
                ("close_code", models.PositiveIntegerField(null=True)),
                ("close_reason", declbind.models.columns.ExactCharField(blank=True, default="", max_length=120)),
                (
                    "offset",
                    models.BigIntegerField(default=0, help_text="The last event handed to the connection's process."),
                ),
                ("queued", models.PositiveIntegerField(default=0)),
                ("subscriptions", declbind.models.columns.ExactTextField(default="[]")),
            ],
            options={
                "db_table": "declbind_connection",
                "ordering": ("opened_at", "id"),
                "permissions": (("disconnect", "Can disconnect clients and block users"),),
                "indexes": [
                    models.Index(fields=["user_pk"], name="declbind_connection_user"),
                    models.Index(fields=["closed_at"], name="declbind_connection_closed"),
                    models.Index(fields=["node"], name="declbind_connection_node"),
                ],
            },
        ),
        migrations.CreateModel(
            name="SavedView",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", declbind.models.columns.ExactCharField(max_length=60)),
                ("query", declbind.models.columns.ExactCharField(blank=True, default="", max_length=500)),
                (
                    "owner_pk",
                    declbind.models.columns.ExactCharField(
                        help_text="The primary key of the user, as text.", max_length=64
                    ),
                ),
            ],
            options={
                "db_table": "declbind_savedview",
                "ordering": ("name",),
                "constraints": [models.UniqueConstraint(fields=("owner_pk", "name"), name="declbind_savedview_unique")],
            },
        ),
    ]

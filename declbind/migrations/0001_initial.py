import django.core.serializers.json
from django.db import migrations, models

import declbind.models.columns


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="BindingRecord",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "stream",
                    declbind.models.columns.ExactCharField(
                        verbose_name="stream",
                        help_text="The name that clients use: letters, digits, '.', '_' and '-'.",
                        max_length=64,
                        unique=True,
                    ),
                ),
                (
                    "model",
                    declbind.models.columns.ExactCharField(
                        verbose_name="model", help_text="The bound model, as app_label.ModelName.", max_length=200
                    ),
                ),
                (
                    "fields",
                    models.JSONField(
                        verbose_name="fields",
                        blank=True,
                        default=None,
                        help_text='Names of the fields that are sent, or "__all__".',
                        null=True,
                    ),
                ),
                (
                    "exclude",
                    models.JSONField(
                        verbose_name="excluded fields",
                        blank=True,
                        default=None,
                        help_text="Send all fields except these.",
                        null=True,
                    ),
                ),
                (
                    "groups",
                    models.JSONField(
                        verbose_name="groups",
                        blank=True,
                        default=list,
                        help_text='Group templates, such as "room-{room_id}". If empty, there is one group for all rows.',
                    ),
                ),
                (
                    "permissions",
                    models.JSONField(
                        verbose_name="permissions",
                        blank=True,
                        default=dict,
                        help_text='view, create, update, delete: a codename, "authenticated", "staff", true (anyone) or false (nobody).',
                    ),
                ),
                (
                    "direction",
                    declbind.models.columns.ExactCharField(
                        verbose_name="direction",
                        choices=[
                            ("both", "both ways"),
                            ("outbound", "only to clients"),
                            ("inbound", "only from clients"),
                        ],
                        default="both",
                        max_length=8,
                    ),
                ),
                (
                    "writable",
                    models.JSONField(
                        verbose_name="writable fields",
                        blank=True,
                        default=None,
                        help_text="Fields that clients may write. An empty list means none.",
                        null=True,
                    ),
                ),
                (
                    "where",
                    models.JSONField(
                        verbose_name="condition on rows",
                        blank=True,
                        default=dict,
                        help_text="The binding covers only rows with these values.",
                    ),
                ),
                (
                    "scope",
                    models.JSONField(
                        verbose_name="own rows",
                        blank=True,
                        default=dict,
                        help_text='Limit each user to their own rows: {"owner_id": "$user.pk"}.',
                    ),
                ),
                (
                    "relate",
                    models.JSONField(
                        verbose_name="related rows",
                        blank=True,
                        default=dict,
                        help_text='Which related rows clients may write: {"project": {"owner_id": "$user.pk"}}.',
                    ),
                ),
                (
                    "grow",
                    models.BooleanField(
                        verbose_name="include later fields",
                        default=False,
                        help_text="Also send fields that are added to the model later.",
                    ),
                ),
                (
                    "auto_subscribe",
                    models.BooleanField(
                        verbose_name="subscribe new connections",
                        default=False,
                        help_text="Subscribe new connections to the groups without placeholders.",
                    ),
                ),
                (
                    "sensitive",
                    models.JSONField(
                        verbose_name="sensitive fields",
                        blank=True,
                        default=list,
                        help_text="Password-like fields that are exposed intentionally.",
                    ),
                ),
                (
                    "serializer",
                    declbind.models.columns.ExactCharField(
                        verbose_name="serializer", default="default", max_length=100
                    ),
                ),
                (
                    "capture",
                    declbind.models.columns.ExactCharField(
                        verbose_name="capture",
                        choices=[("orm", "by Django's ORM"), ("triggers", "by Django's ORM and by database triggers")],
                        default="orm",
                        help_text="Whether database triggers capture raw SQL and writes of other programs. A command installs them.",
                        max_length=8,
                    ),
                ),
                (
                    "also",
                    models.JSONField(
                        verbose_name="also sent again for",
                        blank=True,
                        default=list,
                        help_text="Relations whose changes cause a row to be sent again.",
                    ),
                ),
                (
                    "retention",
                    models.PositiveIntegerField(
                        verbose_name="retention",
                        blank=True,
                        default=None,
                        help_text="How many seconds the log keeps the values that are sent.",
                        null=True,
                    ),
                ),
                ("enabled", models.BooleanField(verbose_name="enabled", default=True)),
                (
                    "description",
                    declbind.models.columns.ExactTextField(verbose_name="description", blank=True, default=""),
                ),
                ("known", models.JSONField(blank=True, default=None, editable=False, null=True)),
            ],
            options={
                "verbose_name": "binding",
                "verbose_name_plural": "bindings",
                "db_table": "declbind_bindingrecord",
                "ordering": ("stream",),
                "permissions": (
                    ("expose_sensitive", "Can expose password-like fields in a binding"),
                    ("bind_rights_models", "Can bind users, groups, tokens and other models that give permissions"),
                ),
            },
        ),
        migrations.CreateModel(
            name="BindingRevision",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
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
                ("stream", declbind.models.columns.ExactCharField(verbose_name="stream", db_index=True, max_length=64)),
                (
                    "definition",
                    models.JSONField(
                        verbose_name="definition", encoder=django.core.serializers.json.DjangoJSONEncoder, null=True
                    ),
                ),
                ("known", models.JSONField(blank=True, default=None, editable=False, null=True)),
                (
                    "version",
                    models.PositiveBigIntegerField(
                        verbose_name="version", help_text="The configuration version that the edit made."
                    ),
                ),
                (
                    "note",
                    declbind.models.columns.ExactCharField(verbose_name="note", blank=True, default="", max_length=500),
                ),
                (
                    "source",
                    declbind.models.columns.ExactCharField(
                        verbose_name="source",
                        blank=True,
                        default="",
                        help_text="The file that the record was applied or imported from.",
                        max_length=200,
                    ),
                ),
                ("created_at", models.DateTimeField(verbose_name="created at", auto_now_add=True)),
            ],
            options={
                "verbose_name": "binding revision",
                "verbose_name_plural": "binding revisions",
                "db_table": "declbind_bindingrevision",
                "ordering": ("-id",),
            },
        ),
        migrations.CreateModel(
            name="Configuration",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("generation", declbind.models.columns.ExactCharField(max_length=32)),
                ("version", models.PositiveBigIntegerField(default=0)),
                ("changed_at", models.DateTimeField(auto_now=True)),
            ],
            options={
                "db_table": "declbind_configuration",
            },
        ),
        migrations.CreateModel(
            name="Head",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("epoch", declbind.models.columns.ExactCharField(max_length=32)),
                ("seq", models.BigIntegerField(default=0)),
                ("min_seq", models.BigIntegerField(default=1)),
                ("trimmed_until", models.DateTimeField(null=True)),
                ("incarnation", declbind.models.columns.ExactCharField(blank=True, default="", max_length=100)),
            ],
            options={
                "db_table": "declbind_head",
            },
        ),
        migrations.CreateModel(
            name="Node",
            fields=[
                ("id", declbind.models.columns.ExactCharField(max_length=32, primary_key=True, serialize=False)),
                ("host", declbind.models.columns.ExactCharField(verbose_name="host", max_length=200)),
                (
                    "pid",
                    models.PositiveIntegerField(
                        verbose_name="process number",
                    ),
                ),
                (
                    "generation",
                    declbind.models.columns.ExactCharField(
                        verbose_name="epoch of the configuration", blank=True, default="", max_length=32
                    ),
                ),
                ("version", models.BigIntegerField(verbose_name="version of the configuration", default=0)),
                (
                    "digest",
                    declbind.models.columns.ExactCharField(
                        verbose_name="hash of the configuration",
                        blank=True,
                        default="",
                        help_text="Hash of the configuration in force.",
                        max_length=16,
                    ),
                ),
                (
                    "code",
                    declbind.models.columns.ExactCharField(
                        verbose_name="hash of the code",
                        blank=True,
                        default="",
                        help_text="Hash of the models, files and binding classes.",
                        max_length=16,
                    ),
                ),
                ("connections", models.PositiveIntegerField(verbose_name="connections", default=0)),
                ("subscriptions", models.PositiveIntegerField(verbose_name="subscriptions", default=0)),
                (
                    "offset",
                    models.BigIntegerField(
                        verbose_name="offset", default=0, help_text="The last event handed to the connections."
                    ),
                ),
                (
                    "streams",
                    models.JSONField(verbose_name="streams", default=dict, help_text="Subscriptions by stream."),
                ),
                (
                    "dropped",
                    models.PositiveBigIntegerField(
                        verbose_name="unrecorded refusals and errors",
                        default=0,
                        help_text="Refusals and errors that were not recorded, because there were too many.",
                    ),
                ),
                (
                    "last_error",
                    declbind.models.columns.ExactTextField(verbose_name="last error", blank=True, default=""),
                ),
                (
                    "started_at",
                    models.DateTimeField(
                        verbose_name="started at",
                    ),
                ),
                (
                    "seen_at",
                    models.DateTimeField(
                        verbose_name="last seen at",
                    ),
                ),
            ],
            options={
                "db_table": "declbind_node",
                "verbose_name": "process",
                "verbose_name_plural": "processes",
                "ordering": ("started_at", "id"),
            },
        ),
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
        migrations.CreateModel(
            name="Traffic",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("at", models.DateTimeField(db_index=True)),
                (
                    "kind",
                    declbind.models.columns.ExactCharField(
                        choices=[
                            ("request", "request"),
                            ("refused", "refused"),
                            ("error", "error"),
                            ("connection", "connection"),
                        ],
                        max_length=10,
                    ),
                ),
                ("node", declbind.models.columns.ExactCharField(blank=True, default="", max_length=32)),
                ("connection", declbind.models.columns.ExactCharField(blank=True, default="", max_length=32)),
                ("tenant", declbind.models.columns.ExactCharField(blank=True, default="", max_length=63)),
                ("user_pk", declbind.models.columns.ExactCharField(blank=True, default="", max_length=64)),
                ("username", declbind.models.columns.ExactCharField(blank=True, default="", max_length=150)),
                ("stream", declbind.models.columns.ExactCharField(blank=True, default="", max_length=64)),
                ("action", declbind.models.columns.ExactCharField(blank=True, default="", max_length=20)),
                ("object_pk", declbind.models.columns.ExactCharField(blank=True, default="", max_length=200)),
                ("groups", models.JSONField(default=list)),
                ("outcome", declbind.models.columns.ExactCharField(blank=True, default="", max_length=40)),
                ("message", declbind.models.columns.ExactTextField(blank=True, default="")),
                ("milliseconds", models.FloatField(null=True)),
                (
                    "detail",
                    declbind.models.columns.ExactTextField(
                        blank=True, default="", help_text="JSON: what else is known; shapes, never values."
                    ),
                ),
            ],
            options={
                "db_table": "declbind_traffic",
                "ordering": ("id",),
            },
        ),
        migrations.CreateModel(
            name="Watch",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("viewer", declbind.models.columns.ExactCharField(max_length=64, unique=True)),
                ("until", models.DateTimeField()),
            ],
            options={
                "db_table": "declbind_watch",
            },
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
            name="Baseline",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("stream", declbind.models.columns.ExactCharField(max_length=64)),
                ("definition", declbind.models.columns.ExactCharField(max_length=64)),
                ("names", models.JSONField(default=list)),
                ("stored_at", models.DateTimeField(auto_now=True)),
            ],
            options={
                "db_table": "declbind_baseline",
                "ordering": ("stream", "id"),
                "constraints": [
                    models.UniqueConstraint(fields=("stream", "definition"), name="declbind_baseline_unique")
                ],
            },
        ),
        migrations.CreateModel(
            name="Block",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
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
                ("tenant", declbind.models.columns.ExactCharField(blank=True, default="", max_length=63)),
                ("user_pk", declbind.models.columns.ExactCharField(max_length=64)),
                ("username", declbind.models.columns.ExactCharField(blank=True, default="", max_length=150)),
                ("until", models.DateTimeField()),
                ("reason", declbind.models.columns.ExactCharField(blank=True, default="", max_length=120)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
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
                ("credential_ends_at", models.DateTimeField(help_text="When the token ends, if it does.", null=True)),
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
            name="Event",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("seq", models.BigIntegerField(null=True)),
                ("kind", declbind.models.columns.ExactCharField(default="row", max_length=8)),
                ("stream", declbind.models.columns.ExactCharField(blank=True, default="", max_length=64)),
                ("model", declbind.models.columns.ExactCharField(blank=True, default="", max_length=200)),
                ("object_pk", declbind.models.columns.ExactTextField(blank=True, default="")),
                ("changes", declbind.models.columns.ExactTextField(default="[]")),
                ("data", declbind.models.columns.ExactTextField(default="{}")),
                ("version", models.BigIntegerField(default=0)),
                ("actor", declbind.models.columns.ExactCharField(blank=True, default="", max_length=150)),
                ("origin", declbind.models.columns.ExactCharField(blank=True, default="", max_length=150)),
                ("tenant", declbind.models.columns.ExactCharField(blank=True, default="", max_length=63)),
                ("process", declbind.models.columns.ExactCharField(blank=True, default="", max_length=100)),
                ("code", declbind.models.columns.ExactCharField(blank=True, default="", max_length=16)),
                ("created_at", models.DateTimeField()),
            ],
            options={
                "db_table": "declbind_event",
                "ordering": ("id",),
                "indexes": [
                    declbind.models.columns.PartialIndex(
                        fields=["id"],
                        name="declbind_event_unsequenced",
                        where=models.Q(("seq__isnull", True)),
                        whole=("seq",),
                    ),
                    declbind.models.columns.PartialIndex(
                        fields=["id"],
                        name="declbind_event_control",
                        where=models.Q(("kind", "control")),
                        whole=("kind",),
                    ),
                    declbind.models.columns.PartialIndex(
                        fields=["id"], name="declbind_event_mark", where=models.Q(("kind", "mark")), whole=("kind",)
                    ),
                ],
                "constraints": [
                    declbind.models.columns.PartialUnique(
                        fields=("seq",), name="declbind_event_sequenced", where=models.Q(("seq__isnull", False))
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="IdempotencyKey",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("actor", declbind.models.columns.ExactCharField(max_length=100)),
                ("stream", declbind.models.columns.ExactCharField(max_length=64)),
                ("key", declbind.models.columns.ExactCharField(max_length=200)),
                ("reply", declbind.models.columns.ExactTextField(default="")),
                ("created_at", models.DateTimeField(db_index=True)),
            ],
            options={
                "db_table": "declbind_idempotencykey",
                "constraints": [
                    models.UniqueConstraint(fields=("actor", "stream", "key"), name="declbind_idempotencykey_unique")
                ],
            },
        ),
        migrations.CreateModel(
            name="SavedView",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "owner_pk",
                    declbind.models.columns.ExactCharField(
                        help_text="The primary key of the user, as text.", max_length=64
                    ),
                ),
                ("name", declbind.models.columns.ExactCharField(max_length=60)),
                ("query", declbind.models.columns.ExactCharField(blank=True, default="", max_length=500)),
            ],
            options={
                "db_table": "declbind_savedview",
                "ordering": ("name",),
                "constraints": [models.UniqueConstraint(fields=("owner_pk", "name"), name="declbind_savedview_unique")],
            },
        ),
        migrations.CreateModel(
            name="UnseenWrite",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("table", declbind.models.columns.ExactCharField(max_length=128)),
                ("verb", declbind.models.columns.ExactCharField(max_length=16)),
                ("location", declbind.models.columns.ExactCharField(blank=True, max_length=300)),
                ("count", models.BigIntegerField(default=0)),
                ("first_at", models.DateTimeField()),
                ("last_at", models.DateTimeField()),
            ],
            options={
                "db_table": "declbind_unseenwrite",
                "constraints": [
                    models.UniqueConstraint(fields=("table", "verb", "location"), name="declbind_unseenwrite_place")
                ],
            },
        ),
    ]

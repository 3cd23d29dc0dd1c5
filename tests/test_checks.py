"""The system checks of settings, bindings and triggers: each whole message."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from django.core import checks as django_checks
from django.core.checks import CheckMessage, Error
from django.core.checks import Warning as CheckWarning
from django.db.models import Model
from pytest_django import Settings

from declbind import checks
from declbind.conf import DEFAULTS, kinds
from declbind.conf.table import SETTINGS, Setting
from declbind.models import BindingRecord
from declbind.outbound.triggers import upkeep
from declbind.registry import refresh
from declbind.testing import override_bindings
from tests.servers import ROOT

INVALID_HINT = "This binding is left out. The others work. `manage.py declbind check` lists all problems."
SILENCE_HINT = 'If it is intended, silence it: SILENCED_SYSTEM_CHECKS = ["declbind.W003"].'


def not_callable() -> dict[str, object]:
    return {}


NOT_CALLABLE = not_callable()


def of_id(messages: list[CheckMessage], *ids: str) -> list[CheckMessage]:
    return [message for message in messages if message.id in ids]


# Settings -------------------------------------------------------------------------------------------------------------


def test_the_settings_of_the_suite_pass() -> None:
    """Negative control: without a mistake there is no message."""
    assert checks.check_settings() == []
    assert checks.check_channel_layer() == []


def test_e001_declbind_is_no_dict(settings: Settings) -> None:
    settings.DECLBIND = ["POLL_SECONDS"]
    assert checks.check_settings() == [
        Error(
            "settings.DECLBIND: expected a dict, got ['POLL_SECONDS'].",
            hint='Write DECLBIND = {"POLL_SECONDS": 0.25}, or leave it out: every key has a default.',
            id="declbind.E001",
        )
    ]


def test_a_setting_that_cannot_be_read_does_not_break_the_other_checks(settings: Settings) -> None:
    """Checks that depend on an invalid setting report nothing, because the setting is reported already."""
    mistakes: Sequence[object] = [[], {"RECORD_DIRS": 5}, {"SERIALIZERS": None}]
    for wrong in mistakes:
        settings.DECLBIND = wrong
        for check in (checks.check_bindings, checks.check_channel_layer):
            assert check() == []
        assert checks.check_records(databases=["default"]) == []


def test_e002_unknown_key(settings: Settings) -> None:
    settings.DECLBIND = {"POLL_SECOND": 1}
    assert checks.check_settings() == [
        Error(
            "settings.DECLBIND: there is no key 'POLL_SECOND' (did you mean 'POLL_SECONDS'?).",
            hint=f"Remove it. The keys are: {', '.join(sorted(DEFAULTS))}.",
            id="declbind.E002",
        )
    ]


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("RECORD_DIRS", "records", "a list of folders (str or Path)"),
        ("RECORD_DIRS", [1], "a list of folders (str or Path)"),
        ("SERIALIZERS", ["x.y"], "a dict from names to dotted paths"),
        ("SERIALIZERS", {"x": None}, "a dict from names to dotted paths"),
        ("CHANNEL_LAYER", 1, "an alias of CHANNEL_LAYERS or None"),
        ("ALLOWED_ORIGINS", "https://example.com", 'None or a list like ["https://example.com"]'),
        ("ALLOWED_ORIGINS", ["example.com"], 'None or a list like ["https://example.com"]'),
        ("ALLOWED_ORIGINS", ["https://example.com/"], 'None or a list like ["https://example.com"]'),
        ("CAPTURE_RAW", 1, "True or False"),
        ("BULK_LIMIT", 0, "a whole number above 0"),
        ("BULK_LIMIT", True, "a whole number above 0"),
        ("BULK_LIMIT", 1.5, "a whole number above 0"),
        ("POLL_SECONDS", 0, "a number above 0"),
        ("POLL_SECONDS", "1", "a number above 0"),
        ("VERSION_CHECK_SECONDS", -1, "a number of at least 0"),
        ("DRAIN_SECONDS", -1, "a number of at least 0"),
    ],
)
def test_e003_wrong_value(settings: Settings, key: str, value: object, expected: str) -> None:
    settings.DECLBIND = {key: value}
    assert checks.check_settings() == [
        Error(
            f"settings.DECLBIND[{key!r}]: expected {expected}, got {value!r}.",
            hint=f"The default is {DEFAULTS[key]!r}.",
            id="declbind.E003",
        )
    ]


@pytest.mark.parametrize("key", DEFAULTS)
def test_each_key_accepts_its_default_and_refuses_a_wrong_type(settings: Settings, key: str) -> None:
    """No key is left unchecked: an object of an unsuitable type is refused for each."""
    # CHANNEL_LAYERS is empty here, and what is written out must exist.
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
    settings.DECLBIND = {key: DEFAULTS[key]}
    assert checks.check_settings() == []
    settings.DECLBIND = {key: object()}
    assert [message.id for message in checks.check_settings()] == ["declbind.E003"]


def undescribed(table: Mapping[str, Setting]) -> list[str]:
    """Return the keys without a whole sentence, and the numbers without a unit."""
    return [
        key
        for key, setting in table.items()
        if not (setting.description[:1].isupper() and setting.description.endswith("."))
        or (isinstance(setting.default, float | int) and not isinstance(setting.default, bool) and not setting.unit)
    ]


def test_each_setting_is_described() -> None:
    """Each setting has a description, and each number a unit. Missing ones are detected."""
    assert undescribed(SETTINGS) == []
    table = {
        "SILENT": Setting(True, kinds.SWITCH, ""),
        "WITHOUT_UNIT": Setting(1, kinds.WHOLE, "How many rows."),
        "ROWS": Setting(1, kinds.WHOLE, "How many there are.", unit="rows"),
    }
    assert undescribed(table) == ["SILENT", "WITHOUT_UNIT"]


@pytest.mark.parametrize("key", [key for key, setting in SETTINGS.items() if setting.is_secret])
def test_a_wrong_secret_is_not_shown(settings: Settings, key: str) -> None:
    """The message about a setting that holds a secret names the type of the value only."""
    settings.DECLBIND = {key: [b"hush"]}
    [message] = checks.check_settings()
    assert "got list." in message.msg
    assert "hush" not in str(message)


def test_e004_serializer(settings: Settings) -> None:
    settings.DECLBIND = {
        "SERIALIZERS": {
            "fine": "tests.test_checks.not_callable",
            "gone": "tests.no_such_module.serialize",
            "odd": "tests.test_checks.NOT_CALLABLE",
        }
    }
    hint = "Every binding with this serializer would fail. Correct the path, or remove the entry."
    assert checks.check_settings() == [
        Error(
            "settings.DECLBIND['SERIALIZERS']['gone']: expected the dotted path of a callable "
            "(instance, binding) -> dict, got 'tests.no_such_module.serialize', which cannot be imported: "
            "No module named 'tests.no_such_module'.",
            hint=hint,
            id="declbind.E004",
        ),
        Error(
            "settings.DECLBIND['SERIALIZERS']['odd']: expected the dotted path of a callable "
            "(instance, binding) -> dict, got 'tests.test_checks.NOT_CALLABLE', which is not callable.",
            hint=hint,
            id="declbind.E004",
        ),
    ]


def test_e005_record_dirs(settings: Settings, tmp_path: Path) -> None:
    missing = str(tmp_path / "nowhere")
    settings.DECLBIND = {"RECORD_DIRS": [tmp_path, missing]}
    assert checks.check_settings() == [
        Error(
            f"settings.DECLBIND['RECORD_DIRS']: expected a folder at {missing!r}, found none.",
            hint=f"Create it, or remove it from the setting. A relative path starts at {str(Path.cwd())!r}.",
            id="declbind.E005",
        )
    ]
    assert of_id(checks.check_bindings(), "declbind.W001") == [], "one mistake, one message"


def test_e006_channel_layer(settings: Settings) -> None:
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
    settings.DECLBIND = {"CHANNEL_LAYER": "bells"}
    assert checks.check_settings() == [
        Error(
            "settings.DECLBIND['CHANNEL_LAYER']: expected an alias of CHANNEL_LAYERS, got 'bells'.",
            hint="CHANNEL_LAYERS has 'default'. None means no doorbell: processes read the log every POLL_SECONDS.",
            id="declbind.E006",
        )
    ]
    settings.DECLBIND = {"CHANNEL_LAYER": None}
    assert checks.check_settings() == []


def test_e009_rights_models(settings: Settings) -> None:
    settings.DECLBIND = {"RIGHTS_MODELS": ["zoo.keeper", "zoo.Keper"]}
    assert checks.check_settings() == [
        Error(
            "settings.DECLBIND['RIGHTS_MODELS']: expected an installed model, got 'zoo.Keper'.",
            hint="Write it as app_label.ModelName. Until then, the intended model may be bound like any other.",
            id="declbind.E009",
        )
    ]
    settings.DECLBIND = {"RIGHTS_MODELS": [3]}
    assert [message.id for message in checks.check_settings()] == ["declbind.E003"]


# Bindings -------------------------------------------------------------------------------------------------------------


def test_w001_invalid_binding_of_a_file(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "two.json").write_text(
        json.dumps([
            {"stream": "sound", "model": "auth.Group", "fields": ["name"]},
            {"stream": "faulty", "model": "auth.Group", "fields": ["naem"]},
        ])
    )  # fmt: skip
    settings.DECLBIND = {"RECORD_DIRS": [str(tmp_path)]}
    assert of_id(checks.check_bindings(), "declbind.W001") == [
        CheckWarning(
            f"{tmp_path}/two.json[1]: $.fields[0]: Binding 'faulty': field 'naem' does not exist on auth.Group. "
            "Did you mean 'name'?",
            hint=INVALID_HINT,
            id="declbind.W001",
        )
    ]


@pytest.mark.django_db
def test_w002_record_that_became_invalid() -> None:
    BindingRecord.objects.create(stream="sound", model="auth.Group", fields=["name"])
    BindingRecord.objects.create(stream="faulty", model="auth.Group", fields=["name"])
    BindingRecord._base_manager.filter(stream="faulty").update(fields=["naem"])
    assert checks.check_records(databases=["default"]) == [
        CheckWarning(
            "database record 'faulty': $.fields[0]: Binding 'faulty': field 'naem' does not exist on auth.Group. "
            "Did you mean 'name'?",
            hint=INVALID_HINT,
            id="declbind.W002",
        )
    ]


@pytest.mark.django_db
def test_w003_oracle() -> None:
    BindingRecord.objects.create(stream="riddle", model="auth.User", fields=["username"], groups=["mail-{email}"])
    assert checks.check_records(databases=["default"]) == [
        CheckWarning(
            "database record 'riddle': $.groups[0]: Binding 'riddle': the group template 'mail-{email}' uses "
            "'email', which is not sent: clients that may subscribe can find out its value by trying. Send it, or "
            "group by another field.",
            hint=SILENCE_HINT,
            id="declbind.W003",
        )
    ]
    BindingRecord.objects.update(enabled=False)
    assert checks.check_records(databases=["default"]) == [], "a disabled binding gives nothing away"


class SplitRouter:
    """A router that writes groups to another database."""

    def db_for_write(self, model: type[Model], **hints: object) -> str | None:
        return "archive" if model._meta.label == "auth.Group" else None


@pytest.mark.django_db
def test_w004_model_of_another_database(settings: Settings) -> None:
    BindingRecord.objects.create(stream="groups", model="auth.Group", fields=["name"])
    BindingRecord.objects.create(stream="requests", model="auth.Group", fields=["name"], direction="inbound")
    settings.DATABASE_ROUTERS = ["tests.test_checks.SplitRouter"]
    assert checks.check_records(databases=["default"]) == [
        CheckWarning(
            "database record 'groups': binding 'groups' captures no writes: auth.Group is written to database "
            "'archive', the log is in 'default'.",
            hint="An event is stored in the transaction of its write, which takes one database for both. Route the "
            "models of app 'declbind' to the database of the bound models.",
            id="declbind.W004",
        )
    ]


# All checks -----------------------------------------------------------------------------------------------------------


def test_every_id_is_documented() -> None:
    """docs/checks.md lists exactly the ids in the code, each once."""
    documented = re.findall(r"^\| `(declbind\.[EW]\d{3})` \|", (ROOT / "docs/checks.md").read_text(), re.MULTILINE)
    modules = [path for path in (ROOT / "declbind/checks").glob("*.py") if path.name != "__init__.py"]
    used = {id_ for path in modules for id_ in re.findall(r'(?:id=|, )"(declbind\.[EW]\d{3})"', path.read_text())}
    assert documented == list(checks.CHECKS)
    assert used == set(checks.CHECKS)


def test_a_plain_check_makes_no_query() -> None:
    """No check makes a query unless the command allows the database. In this test, a query would fail."""
    messages = django_checks.run_checks(tags=["declbind"], databases=[])
    assert [message for message in messages if message.is_serious()] == []


@pytest.mark.django_db
def test_records_are_asked_for_only_with_their_database() -> None:
    """Permission for another database than that of the records causes no query."""
    BindingRecord.objects.create(stream="faulty", model="auth.Group", fields=["name"])
    BindingRecord._base_manager.update(fields=["naem"])
    assert of_id(django_checks.run_checks(), "declbind.W002") == []
    assert of_id(django_checks.run_checks(databases=["default"]), "declbind.W002") != []
    assert checks.check_records(databases=["archive"]) == []


def test_a_database_without_tables_passes(settings: Settings, tmp_path: Path) -> None:
    """Before the first migrate nothing is checked, and nothing fails."""
    ran = subprocess.run(
        [sys.executable, "-m", "django", "check", "--database", "default"],
        cwd=ROOT,
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": settings.SETTINGS_MODULE,
            "DATABASE_URL": f"sqlite:///{tmp_path / 'empty.sqlite3'}",
        },
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr


@pytest.fixture(autouse=True)
def fresh_registry(request: pytest.FixtureRequest) -> object:
    """Leave no registry of a test's settings behind."""
    yield
    if "django_db" in request.keywords:
        refresh(force=True)


@pytest.mark.needs_triggers
@pytest.mark.django_db
def test_a_table_without_its_triggers_is_named() -> None:
    """Tables are reported if their database may be queried, and not after the triggers are installed."""
    binding = {"stream": "keepers", "model": "zoo.Keeper", "fields": ["name"], "capture": "triggers"}
    BindingRecord.objects.create(**binding)
    assert checks.check_triggers(databases=[]) == []
    assert of_id(checks.check_triggers(databases=["default"]), "declbind.W007") == [
        CheckWarning(
            "Raw SQL and other programs may not be captured for 'keepers': the triggers of table 'zoo_keeper' are "
            "missing.",
            hint="Run `manage.py declbind triggers --install`; `--sql` prints what it does.",
            id="declbind.W007",
        )
    ]
    with override_bindings(binding):
        upkeep.install("default")
    assert checks.check_triggers(databases=["default"]) == []
    upkeep.remove("default")


@pytest.mark.parametrize(("hosts", "origins"), [(["example.com"], None), ([], None), (["*"], ["https://example.com"])])
def test_w020_is_not_reported_if_the_site_is_named(hosts, origins, settings):
    """The site is named by its hosts or by the origins of its pages."""
    settings.ALLOWED_HOSTS, settings.DECLBIND = hosts, {"ALLOWED_ORIGINS": origins}
    assert checks.check_origins() == []


def test_w020_any_host_counts_as_the_sites_own(settings):
    """Only `check --deploy` reports it: development servers may accept any name."""
    settings.ALLOWED_HOSTS, settings.DECLBIND = ["*"], {}
    assert checks.check_origins() == [
        CheckWarning(
            'settings.ALLOWED_HOSTS: "*" accepts any host name, and without DECLBIND["ALLOWED_ORIGINS"] a page may '
            "open a socket if it comes from the host that the request names. A page of a foreign domain that resolves "
            "to this server could connect with the cookies of that domain.",
            hint='List the names of the site in ALLOWED_HOSTS, or its origins in DECLBIND["ALLOWED_ORIGINS"], such as '
            '["https://example.com"].',
            id="declbind.W020",
        )
    ]
    found = {message.id for message in django_checks.run_checks()}
    deployed = {message.id for message in django_checks.run_checks(include_deployment_checks=True)}
    assert "declbind.W020" not in found
    assert "declbind.W020" in deployed

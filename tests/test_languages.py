"""The sentences of declbind in the language of their reader, and English for programs, logs and the database."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.checks import run_checks
from django.db import DEFAULT_DB_ALIAS
from django.utils import translation

from declbind import record_validation, registry
from declbind.checks import check_records
from declbind.console import doctor, why
from declbind.console.consequences import consequences
from declbind.console.finding import Finding
from declbind.console.openings import missing_permissions
from declbind.console.overview import load_states
from declbind.console.trial import Question as Trial
from declbind.console.trial import make_trial
from declbind.english import as_english
from declbind.live.traffic import WITHHELD
from declbind.models import Traffic
from declbind.outbound import drafts
from declbind.registry import override
from declbind.serializers.guard import describe_withheld
from tests.command_runs import GROUPS, Ran, fresh_registry, spoil, store
from tests.factories import AnimalFactory, UserFactory
from tests.trials import OWN, attempt

__all__ = ["fresh_registry"]

pytestmark = pytest.mark.django_db

WRONG = {**GROUPS, "fields": ["naem"]}
ENGLISH = "Binding 'groups': field 'naem' does not exist on auth.Group. Did you mean 'name'?"
GERMAN = "Bindung 'groups': das Feld 'naem' gibt es in auth.Group nicht. Meinten Sie 'name'?"
CHINESE = "绑定 'groups'：auth.Group 中不存在字段 'naem'。您是指 'name' 吗？"  # noqa: RUF001  # Chinese punctuation


def test_a_problem_is_in_the_language_of_each_reader() -> None:
    """The registry keeps a problem that it found in one request, and other requests read it in other languages."""
    store()
    spoil()
    with translation.override("de"):
        registry.refresh(force=True)
        [entry] = [one for one in registry.get_registry().entries if one.stream == "groups"]
        assert entry.problems[0].message == GERMAN
    with translation.override("zh-hans"):
        assert entry.problems[0].message.replace(" 您", "您") == CHINESE
    with translation.override("en"):
        assert entry.problems[0].message == ENGLISH
    # A reader without a translation gets English.
    with translation.override("fr"):
        assert entry.problems[0].message == ENGLISH


def test_validation_finds_the_same_in_every_language() -> None:
    """The paths of problems do not depend on the language."""
    _, problems = record_validation.validate_document(WRONG)
    with translation.override("de"):
        _, german = record_validation.validate_document(WRONG)
        assert [problem.path for problem in german] == [problem.path for problem in problems]
        assert german == problems


@contextmanager
def site_in(language: str) -> Iterator[None]:
    """Activate a language, as ``LANGUAGE_CODE`` does in a process without a request."""
    with translation.override(language):
        yield


@pytest.mark.parametrize("arguments", [("check",), ("list", "--format", "json"), ("show", "groups"), ("doctor",)])
def test_the_command_speaks_english(arguments: tuple[str, ...]) -> None:
    """The output of the command, text and JSON, is the same whatever the language of the site."""
    store()
    spoil()
    english = Ran(*arguments)
    with site_in("de"):
        german = Ran(*arguments)
        assert translation.get_language() == "de"
    if arguments != ("doctor",):
        assert (german.out, german.err) == (english.out, english.err)
    assert "Bindung" not in german.out + german.err


def test_the_same_data_is_german_in_the_admin() -> None:
    """Negative control: what the command prints in English comes from the functions that the pages use."""
    store()
    spoil()
    with site_in("de"):
        [state] = [one for one in load_states(DEFAULT_DB_ALIAS) if one.stream == "groups"]
        assert state.problems[0].message == GERMAN
        assert any(found.meaning.startswith("Datenbank") or "Bindung" in found.meaning for found in _examine())


def _examine() -> list[Finding]:
    return doctor.examine(DEFAULT_DB_ALIAS)


def test_checks_are_english() -> None:
    """System checks are English, as in Django, also if the site is not."""
    store()
    spoil()
    with site_in("de"):
        messages = run_checks(tags=["declbind"], databases=[DEFAULT_DB_ALIAS])
    assert [message.msg for message in messages if message.id == "declbind.W002"] == [
        f"database record 'groups': $.fields[0]: {ENGLISH}"
    ]


def test_a_check_that_is_not_kept_english_would_be_german() -> None:
    """Negative control: the check without its decorator."""
    store()
    spoil()
    with site_in("de"):
        [message] = inspect.unwrap(check_records)([DEFAULT_DB_ALIAS])
        assert message.msg == f"database record 'groups': $.fields[0]: {GERMAN}"


def test_what_is_stored_and_logged_is_english(caplog: pytest.LogCaptureFixture) -> None:
    """The traffic is read by operators of several languages, and the log by developers."""
    outlet: Any = SimpleNamespace(stream="s", binding=None)
    with site_in("de"), caplog.at_level(logging.ERROR):
        assert str(describe_withheld(["token"])).startswith("Der Code")
        assert as_english(describe_withheld(["token"])).startswith("The code")
        drafts._note_withheld(outlet, ("token",), DEFAULT_DB_ALIAS)
    assert "The code of the binding puts 'token' into its payloads" in caplog.text
    assert list(Traffic.objects.filter(outcome=WITHHELD).values_list("message", flat=True)) == [
        as_english(describe_withheld(["token"]))
    ]


@pytest.mark.parametrize("language", ["en", "de", "zh-hans"])
def test_verdicts_do_not_depend_on_the_language(language: str) -> None:
    """A row of somebody else is known as such by its evidence, not by the text, and Why? says so."""
    owner, other = UserFactory.create(), UserFactory.create()
    row = AnimalFactory.create(owner=owner)
    with site_in(language), override(OWN):
        made = attempt(OWN, pk=row.pk, who=other.username)
        assert made.refusal.evidence["scope"] == ["owner_id"]
        assert ("another user" in made.refusal.text) is (language == "en")
        assert made.as_json()["question"]["configuration"] == "active"


def test_trials_consequences_and_permissions_are_translated() -> None:
    """Each is made for one request, in its language."""
    with site_in("de"):
        made = make_trial(Trial(stream="nothing"))
        assert made.steps[0].title == "Bindung gefunden"
        assert made.steps[0].text.startswith("Keine Bindung hat den Stream 'nothing'.")
        texts = [one.text for one in consequences(None, {**GROUPS, "permissions": {"view": True}})]
        assert texts[:3] == ["ist eine neue Bindung von auth.Group", "sendet name", "abonnieren dürfen: alle"]
        [first, *_] = missing_permissions(SimpleNamespace(has_perm=lambda codename: False), None, GROUPS)
        assert first.message.startswith("Nur Benutzer mit der Berechtigung")
        # Django stores the names of permissions, and shows them as they are stored.
        assert '"Can ' in first.message


def test_why_answers_in_the_language_of_the_reader() -> None:
    """Causes and certainty have codes for programs and words for people."""
    question = why.Question("nothing", "1")
    with site_in("zh-hans"):
        [answer, *_] = why.explain(question, DEFAULT_DB_ALIAS).answers
        assert (answer.text, answer.certainty.text) == ("没有绑定 'nothing'。", "确定")
        found = answer.as_json()
    assert (found["cause"], found["certainty"]) == ("no_binding", "certain")

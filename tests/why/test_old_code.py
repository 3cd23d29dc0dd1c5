"""Processes without sockets that run older code or an older configuration than the others."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from declbind.code_digest import digest_code
from declbind.console.doctor import examine
from declbind.console.old_code import Present
from declbind.console.why import Answer, Cause, Certainty, Question, explain
from declbind.models import BindingRecord, BindingRevision, Event, Node
from declbind.outbound import relay
from declbind.registry import database_alias, get_registry, refresh
from declbind.testing import override_bindings
from example_site.example.models import IntegerValue
from tests.factories import make_user
from tests.live import ANYONE, NUMBERS
from tests.servers import ROOT, DjangoServer
from tests.why_questions import attend, run

pytestmark = pytest.mark.django_db(transaction=True)

#: A worker that saves a row whenever it reads its key, as a task would.
WORKER = """
import sys
import django
django.setup()
from example_site.example.models import IntegerValue
sys.argv = ["/usr/bin/celery", "worker"]
print("ready", flush=True)
for line in sys.stdin:
    row, _ = IntegerValue.objects.get_or_create(pk=int(line), defaults={"name": "a", "value": 0})
    row.value += 1
    row.save()
    print("saved", flush=True)
"""


class Worker:
    """A process of its own that saves rows."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def save(self, row: IntegerValue) -> None:
        """Save a row, and wait for it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{row.pk}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "saved\n"


@contextmanager
def running(folder: Path, server_env: dict[str, str | None], **edits: str) -> Iterator[Worker]:
    """Run a worker with a copy of the example site, in which each text of ``edits`` is replaced in its bindings."""
    shutil.copytree(ROOT / "example_site", folder / "example_site", ignore=shutil.ignore_patterns("var"))
    for name, (old, new) in ((name, edit.split(" -> ")) for name, edit in edits.items()):
        file = folder / "example_site/example" / f"{name}.py"
        assert old in file.read_text()
        file.write_text(file.read_text().replace(old, new))
    env = {**DjangoServer(env=server_env).environment(), "PYTHONPATH": f"{folder}:{ROOT}"}
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER], cwd=folder, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        yield Worker(process)
    finally:
        process.stdin.close()
        process.wait(20)
        process.stdout.close()


def ask(row: Any, stream: str = "intval", **values: Any) -> tuple[Answer, ...]:
    relay.run_once(database_alias())
    return explain(Question(stream, str(row.pk), **values), database_alias()).answers


def of_code(answers: tuple[Answer, ...]) -> list[Answer]:
    return [answer for answer in answers if answer.cause in (Cause.OLD_CODE, Cause.OLD_VERSION)]


def test_a_worker_with_older_binding_classes_is_named(tmp_path: Path, server_env: dict[str, str | None]) -> None:
    """Its event went to a group that nobody subscribes to any more. The answer names the process and the program."""
    user = make_user()
    row = IntegerValue.objects.create(name="a", value=1)
    with running(tmp_path, server_env, bindings="intval-updates -> old-updates") as worker:
        attend(user, [["intval", "intval-updates", None, 0, ""]])
        worker.save(row)
        first = ask(row, user=user.username)[0]
        assert (first.cause, first.certainty) == (Cause.OLD_CODE, Certainty.LIKELY)
        assert f":{worker.process.pid} (celery)" in first.text
        assert ("groups it went to", ["old-updates"]) in first.evidence
        assert "Restart" in first.remedy


def test_a_worker_with_older_models_is_named_without_an_event_of_the_row(
    tmp_path: Path, server_env: dict[str, str | None]
) -> None:
    """The worker has a column less than the others. What it wrote without an event may have been this row."""
    with running(tmp_path, server_env, models="max_length=255) -> max_length=255, null=True)") as worker:
        with override_bindings({**NUMBERS, "stream": "intval"}):
            row = IntegerValue.objects.create(name="a", value=1)
            other = IntegerValue.objects.create(name="b", value=1)
            worker.save(other)
            run("UPDATE example_integervalue SET value = 7 WHERE id = %s", row.pk)
            answers = ask(row)
        assert answers[0].cause is Cause.NOT_CAPTURED
        (found,) = of_code(answers)
        assert (found.cause, found.certainty) == (Cause.OLD_CODE, Certainty.LIKELY)
        assert f":{worker.process.pid} (celery)" in found.text


def test_a_worker_with_the_same_code_is_not_named(tmp_path: Path, server_env: dict[str, str | None]) -> None:
    """Two processes of one deployment have the same digest, wherever their files are."""
    row = IntegerValue.objects.create(name="a", value=1)
    with running(tmp_path, server_env) as worker:
        worker.save(row)
    assert len(set(Event.objects.filter(stream="intval").values_list("code", flat=True))) == 1
    assert len(set(Event.objects.filter(stream="intval").values_list("process", flat=True))) == 2
    assert of_code(ask(row)) == []


def keep(**values: Any) -> BindingRecord:
    record = BindingRecord(**{**NUMBERS, **values})
    record.save()
    refresh()
    return record


def test_a_process_that_has_not_read_an_edit_is_named() -> None:
    """It is certain if the order of the log says so as well; then the event has fields that are not sent any more."""
    record = keep()
    row = IntegerValue.objects.create(name="a", value=1)
    old = Event.objects.get(stream="numbers").version
    record.fields = ["value"]
    record.save()
    refresh()
    BindingRevision.objects.update(created_at=timezone.now() - timedelta(minutes=5))
    Event.objects.filter(kind=Event.CONTROL).delete()
    row.save()
    event = Event.objects.filter(stream="numbers").latest("pk")
    Event.objects.filter(pk=event.pk).update(version=old, data='{"name":"a","value":1}', process="web:9")
    (found,) = of_code(ask(row, "numbers"))
    assert (found.cause, found.certainty) == (Cause.OLD_VERSION, Certainty.LIKELY)
    assert "web:9" in found.text
    assert "although" in found.text


def test_an_edit_after_the_event_does_not_make_its_process_old() -> None:
    """The clocks of two hosts differ, so that an edit may seem to be older than an event before it."""
    record = keep()
    IntegerValue.objects.create(name="a", value=1)
    record.fields = ["value"]
    record.save()
    refresh()
    BindingRevision.objects.update(created_at=timezone.now() - timedelta(minutes=5))
    event = Event.objects.get(stream="numbers")
    assert Present.load(database_alias()).judge(event) is None
    Event.objects.filter(kind=Event.CONTROL).delete()
    assert Present.load(database_alias()).judge(event) is not None


def test_a_process_that_wrote_before_a_deployment_is_not_called_old_for_certain() -> None:
    """Its code was the present one at that time."""
    with override_bindings(NUMBERS):
        IntegerValue.objects.create(name="a", value=1)
        event = Event.objects.get(stream="numbers")
        event.code = "before"
        event.save()
        age = Present.load(database_alias()).judge(event)
        assert age is not None
        assert age.is_sure is None
        IntegerValue.objects.create(name="a", value=1)
        latest = Event.objects.latest("pk")
        latest.code = "before"
        event.code = digest_code(get_registry())
        event.save()
        age = Present.load(database_alias()).judge(latest)
        assert age is not None
        assert age.is_sure


def test_a_process_with_sockets_and_other_models_is_named() -> None:
    """Its bindings are the same as those of the others. Of two processes, the one that started last is right."""
    now = timezone.now()
    registry = refresh(force=True)
    same = {"generation": registry.generation, "version": registry.version, "digest": registry.digest, "seen_at": now}
    Node.objects.create(id="old", host="old", pid=1, started_at=now - timedelta(hours=1), code="old", **same)
    Node.objects.create(id="new", host="new", pid=2, started_at=now, code="new", **same)
    faults = {process.name: process.fault for process in Present.load(database_alias()).processes.processes}
    assert faults["new:2"] == ""
    assert "other models" in faults["old:1"]


def test_a_changed_method_changes_the_digest() -> None:
    """The specs of the two classes are equal. Records of the database do not count."""
    from declbind import WebsocketBinding

    def make(group: str) -> type[WebsocketBinding]:
        class Numbers(WebsocketBinding):
            model = IntegerValue
            stream = "numbers"
            fields = ("name",)
            permissions = ANYONE

            @classmethod
            def group_names(cls, instance: Any) -> list[str]:
                return ["one"] if group == "one" else ["two"]

        if group == "other":
            Numbers.group_names = classmethod(lambda cls, instance: ["three"])  # type: ignore[assignment,method-assign]
        return Numbers

    found = []
    for group in ("one", "two", "other"):
        with override_bindings(make(group)) as registry:
            found.append(digest_code(registry))
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize(
    ("present_for", "wrote_before", "level"), [(6, 1, "bad"), (3, 1, "note"), (60, 30, "note")], ids=str
)
def test_the_doctor_names_a_worker_with_older_code(present_for: int, wrote_before: int, level: str) -> None:
    """It is a fault if the worker wrote lately, minutes after the present code was there. Else it may have ended."""
    with override_bindings(NUMBERS):
        row = IntegerValue.objects.create(name="a", value=1)
        assert [finding for finding in examine(database_alias()) if finding.name == "code"] == []
        now = timezone.now()
        Event.objects.update(created_at=now - timedelta(minutes=present_for + wrote_before))
        row.save()
        Event.objects.filter(pk=Event.objects.latest("pk").pk).update(
            code="old", process="worker:5", created_at=now - timedelta(minutes=wrote_before)
        )
        found = [finding for finding in examine(database_alias()) if finding.name == "code"]
    assert [finding.level for finding in found] == [level]
    assert "worker:5" in found[0].meaning

"""The next step after each answer: a page that exists, and a command that can be parsed."""

from __future__ import annotations

import re
import shlex
from html import unescape
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandParser
from django.test import Client
from django.urls import reverse
from django.utils.html import escape

from declbind.console.why import Answer, Cause, Explanation, Question, find_step
from declbind.management.commands.declbind import Command
from declbind.testing import override_bindings
from tests.factories import make_user
from tests.live import NUMBERS
from tests.why_questions import attend, last_offset, stored

PAGE = "/admin/declbind/bindingrecord/why/"


def plain(text: str) -> str:
    """Return a text without what marks code in it."""
    return " ".join(text.replace("`", "").split())


def parse(command: str) -> Any:
    """Parse a command line of declbind as a shell and Django would."""
    words = shlex.split(command)
    assert words[:2] == ["manage.py", "declbind"]
    parser = CommandParser(prog="declbind")
    Command().add_arguments(parser)
    return parser.parse_args(words[2:])


@pytest.mark.parametrize("cause", list(Cause), ids=lambda cause: cause.code)
@pytest.mark.parametrize("user", ["", "anonymous", "Jane Doe"])
def test_each_cause_leads_to_a_page_and_a_command(cause: Cause, user: str) -> None:
    """Whatever the question holds."""
    step = find_step(Answer(cause, "."), Question("num bers", "7", user))
    assert parse(step.command).verb
    assert reverse(f"admin:declbind_bindingrecord_{step.page}")
    assert all(value for _, value in step.query)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("cause", list(Cause), ids=lambda cause: cause.code)
def test_the_page_links_to_what_can_be_opened(cause: Cause, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """The link is on the page, with everything filled in, and so are the command and the advice."""
    client.force_login(User.objects.create_superuser("root"))
    with override_bindings(NUMBERS):
        row = stored()
        question = Question("numbers", str(row.pk), "root")
        monkeypatch.setattr("declbind.console.why.explain", lambda *_: Explanation(question, (Answer(cause, "Text."),)))
        text = client.get(PAGE, {"stream": "numbers", "row": str(row.pk), "user": "root"}).content.decode()
        found = re.search(r'<b>Next:</b> <a href="([^"]+)">', text)
        assert found is not None
        assert client.get(unescape(found[1])).status_code == 200
    assert escape(find_step(Answer(cause, "."), question).command) in text
    assert plain(str(cause.value.remedy)) in plain(unescape(re.sub(r"<[^>]+>", "", text)))


@pytest.mark.django_db(transaction=True)
def test_the_page_leads_on_from_what_arrived(client: Client) -> None:
    """To the frame in the browser, and to the traffic of the row."""
    client.force_login(User.objects.create_superuser("root"))
    with override_bindings(NUMBERS):
        row = stored()
        offset = last_offset()
        attend(make_user(), [["numbers", "name-a", None, offset - 1, ""]])
        text = client.get(PAGE, {"stream": "numbers", "row": str(row.pk), "offset": str(offset)}).content.decode()
    assert (
        escape(f"Look at the page's own code: the frame with offset {offset} is in the browser's network tab") in text
    )
    assert escape(f"live/?stream=numbers&row={row.pk}") in text

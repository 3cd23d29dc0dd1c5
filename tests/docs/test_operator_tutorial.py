"""The labels that the operator tutorial names, compared with those on the pages of the console."""

from __future__ import annotations

import html
import re

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client
from pytest_django import Settings

from declbind.models import BindingRecord
from example_site.example import accounts
from tests.servers import ROOT

TUTORIAL = ROOT / "docs/tutorials/operator.md"
RECORDS = "/admin/declbind/bindingrecord/"


def named_labels(text: str) -> list[str]:
    """Return the texts that the tutorial prints bold or in italics: those that the reader looks for on a page."""
    return [bold or italic for bold, italic in re.findall(r"\*\*([^*]+)\*\*|\*([^*\n]+)\*", text)]


def visible_text(page: str) -> str:
    """Return the text of a page, without its tags, and the values of its buttons."""
    page = re.sub(r"<(script|style).*?</\1>", " ", page, flags=re.DOTALL)
    values = " ".join(re.findall(r'value="([^"]*)"', page))
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page) + values).split())


@pytest.fixture
def console_text(settings: Settings, db: None) -> str:
    """Return the text of the pages of the tutorial, as the demo's operator sees them after its steps."""
    settings.DEBUG = True
    accounts.ensure_users()
    call_command("loaddata", "blog_sample", verbosity=0)
    record = BindingRecord.objects.create(
        stream="blogs", model="blog.Blog", fields=["title", "slug"], permissions={"view": True}
    )
    record.fields = ["title"]
    record.save()
    client = Client()
    client.force_login(User.objects.get(username="operator"))
    question = {"who": "reader", "action": "update", "stream": "blogs", "pk": "1", "values": "title = Windy day"}
    answers = [
        client.get("/admin/"),
        client.get(RECORDS),
        client.get(f"{RECORDS}add/"),
        client.get(f"{RECORDS}{record.pk}/overview/"),
        client.get(f"{RECORDS}{record.pk}/change/"),
        client.get(f"{RECORDS}{record.pk}/history/"),
        client.get(f"{RECORDS}live/"),
        client.post(f"{RECORDS}try/", question),
    ]
    assert [answer.status_code for answer in answers] == [200] * len(answers)
    return " ".join(visible_text(answer.content.decode()) for answer in answers)


def test_the_labels_of_the_tutorial_are_on_the_pages(console_text: str) -> None:
    """The pages have these labels in the same words."""
    labels = named_labels(TUTORIAL.read_text())
    assert len(labels) > 15
    assert [label for label in labels if label not in console_text] == []


def test_a_missing_label_would_be_caught(console_text: str) -> None:
    """Control: a label that no page has is found."""
    labels = named_labels("Click **Save** and then **Publish everywhere**.")
    assert [label for label in labels if label not in console_text] == ["Publish everywhere"]

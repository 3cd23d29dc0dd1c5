"""The list with a thousand bindings: as many queries as with ten, and a page of acceptable size."""

from __future__ import annotations

import json

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from declbind.models import BindingRecord
from declbind.registry import refresh
from tests.console_forms import LIST, POST, spoil

pytestmark = pytest.mark.django_db

MANY = 1000
MEGABYTE = 1_000_000


def save_many(count, start=0):
    BindingRecord.objects.bulk_create(
        BindingRecord().assign(
            {**POST, "stream": f"posts-{number}", "description": "Posts of a blog, live for its readers." * 3}
        )
        for number in range(start, start + count)
    )


def look(client, query=""):
    """Return the answer and its number of queries, with warm caches."""
    client.get(LIST + query)
    with CaptureQueriesContext(connection) as queries:
        response = client.get(LIST + query)
    assert response.status_code == 200
    return response, len(queries)


def test_a_thousand_bindings_take_as_many_queries_as_ten(admin_client):
    """At most twelve queries and a megabyte. Headline, filters and search cover all of them."""
    save_many(10)
    _, few = look(admin_client)
    save_many(MANY - 10, start=10)
    spoil(BindingRecord.objects.get(stream="posts-700"), fields=["titel"])
    # Bypasses the signals, as the edits do; another process would see it when the version changes.
    refresh(force=True)
    BindingRecord.objects.get(stream="posts-3").save()
    response, many = look(admin_client)
    assert many == few <= 12
    assert len(response.content) < MEGABYTE
    assert response.context["cl"].stored_count == MANY
    assert "1 binding invalid" in response.content.decode()

    response, _ = look(admin_client, "?state=invalid")
    assert [row.stream for row in response.context["cl"].result_list] == ["posts-700"]
    response, _ = look(admin_client, "?q=posts-99")
    assert {row.stream for row in response.context["cl"].result_list} == {
        "posts-99", *(f"posts-99{number}" for number in range(10)),
    }  # fmt: skip
    response, _ = look(admin_client, "?p=10")
    assert response.context["cl"].result_list
    assert len(look(admin_client, "?all=")[0].content) < MEGABYTE


def test_a_thousand_bindings_of_files_are_listed_in_pages(admin_client, tmp_path, settings):
    """Each page of the table can be reached, and has a bounded length."""
    records = [{**POST, "stream": f"file-{number:04}"} for number in range(MANY)]
    (tmp_path / "all.json").write_text(json.dumps(records))
    settings.DECLBIND = {"RECORD_DIRS": [str(tmp_path)]}
    refresh(force=True)
    seen: list[str] = []
    for number in range(1, MANY // 100 + 1):
        page = admin_client.get(LIST, {"source": "file", "q": "file", "p": number})
        assert page.status_code == 200
        assert len(page.content) < MEGABYTE
        assert page.context["cl"].result_count == MANY
        seen += [record.stream for record in page.context["cl"].result_list]
    assert seen == [f"file-{number:04}" for number in range(MANY)]
    assert admin_client.get(LIST, {"source": "file", "p": "nonsense"}).status_code == 200

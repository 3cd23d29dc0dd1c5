"""The console against absurd addresses, forms and rows: an answer, never a fault, on every database."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.test import Client

from declbind.models import BindingRecord
from tests.test_admin_connections import open_connection
from tests.test_admin_form import LIST

pytestmark = pytest.mark.django_db

#: Every page, with what its address takes.
PAGES = {
    "": "q p o e state source app direction open silent stream id id__in enabled direction__exact stream__contains "
    "description__regex _facets",
    "live/": "cursor stream model row group user action outcome node q only",
    "live/rows/": "stream model row group user action outcome node q only whole bare extras",
    "live/export/": "cursor stream model row group user action outcome node q only format",
    "why/": "stream row user at offset connection",
    "try/": "who stream action pk values params revision document as_if_enabled carry_out",
    "connections/": "user stream group node state p",
    "processes/": "p q",
    "doctor/": "p q",
    "import/": "text",
    "export/": "q",
    "add/json/": "document",
}
ABSURD = {
    "nul": "a\0b",
    "huge": "1" + 30 * "0",
    "negative": "-1",
    "far": "9" * 5000,
    "superscript": "\N{SUPERSCRIPT TWO}",
    "long": 100_000 * "x",
    "words": 20_000 * "x y ",
    "replaced": "\ud800".encode("utf-8", "surrogatepass"),
    "early": "0001-01-01 00:00",
    "late": "9999-12-31 23:59",
    "quotes": "'\"`;--%_\\",
    "pattern": "(((",
    "json": '{"a": "\\ud800", "b": "\\u0000"}',
    "deep": 5_000 * "[",
}


@pytest.fixture
def operator(db):
    """Return the client of somebody who may do everything: whom nothing keeps from meeting a fault."""
    user = User.objects.create_superuser("operator")
    client = Client(raise_request_exception=False)
    client.force_login(user)
    return client


@pytest.mark.parametrize("absurd", ABSURD)
@pytest.mark.parametrize("page", PAGES)
def test_no_address_makes_a_fault(operator, page, absurd):
    """Whatever stands in the address, in each of its keys, once or twice."""
    BindingRecord().assign({"stream": "animals", "model": "zoo.Animal", "fields": ["legs"], "groups": ["all"]}).save()
    for key in PAGES[page].split():
        more = {
            "live/rows/": {"cursor": "e:0:0"},
            "why/": {"stream": "animals", "row": "1"},
            "try/": {"stream": "animals", "action": "view", "pk": "1"},
        }.get(page, {})
        for values in ([ABSURD[absurd]], 2 * [ABSURD[absurd]]):
            answer = operator.get(LIST + page, {**more, key: values})
            assert answer.status_code in (200, 302, 400, 403, 404), (page, key, absurd, answer.exc_info)


FORMS = {
    "live/views/": "name query delete",
    "connections/": "unblock",
    "connections/c1/": "seconds reason",
    "try/": "who stream action pk values params revision document",
    "import/": "text source note plan version generation",
    "add/json/": "document note opened_with",
    "live/row/e1/": "hide",
}


@pytest.mark.parametrize("absurd", ABSURD)
@pytest.mark.parametrize("page", FORMS)
def test_no_form_makes_a_fault(operator, page, absurd):
    """Whatever is sent."""
    open_connection("c1", User.objects.get())
    for key in FORMS[page].split():
        more = {
            "try/": {"stream": "animals", "action": "create", "who": "operator"},
            "connections/c1/": {"seconds": "600"},
            "import/": {"_apply": "1", "text": "[]"},
        }.get(page, {})
        answer = operator.post(LIST + page, {**more, key: ABSURD[absurd]})
        assert answer.status_code in (200, 302, 400, 403, 404), (page, key, absurd, answer.exc_info)


PATHS = (
    "connections/a%00b/", "live/row/e%00/", "live/row/e%C2%B2/", "defined/%00/", "defined/../../etc/passwd/",
    "%00/json/", "%C2%B2/json/", f"1{30 * '0'}/json/",
)  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_no_path_makes_a_fault(operator, path):
    """There is no such page, or it is the list that says so."""
    assert operator.get(LIST + path).status_code in (302, 404)

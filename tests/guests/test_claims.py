"""The table of docs/capture.md, compared with the roster, the pinned versions and the extra of the metadata."""

from __future__ import annotations

import dataclasses
import re
import tomllib

from tests.servers import ROOT

from . import table
from .roster import ENDS, GUESTS, NEWEST, SHOPS, pinned_versions
from .runs import runs_of


def test_the_table_says_what_was_run():
    """Each guest has a row with the pinned versions, and none is missing because it failed."""
    assert table.parse(table.PATH.read_text()) == table.expected_rows(), "run: make guests"


def test_another_version_is_detected():
    """Negative control: a row of an older version, a failed row and a missing row are detected."""
    rows = table.expected_rows()
    for broken in (
        [dataclasses.replace(rows[0], packages="django-pghistory 1.0"), *rows[1:]],
        [dataclasses.replace(rows[0], postgres=table.FAILED), *rows[1:]],
        rows[1:],
    ):
        assert table.parse(table.render(table.PATH.read_text(), broken)) == broken != rows


def test_each_guest_is_run_at_one_end():
    """Each guest is in exactly one round, with a reason if that is not the newest."""
    ran = [run for end in ENDS for run in runs_of(end)]
    assert sorted(ran, key=str) == sorted(
        ((guest, database) for guest in GUESTS for database in guest.databases), key=str
    )
    assert [guest.name for guest in GUESTS if (guest.end == NEWEST) is bool(guest.why)] == []


def test_each_shop_has_a_guest():
    """Every module in ``shops`` belongs to a guest."""
    assert set(SHOPS.glob("*.py")) == {guest.models for guest in GUESTS}


def test_the_extra_has_each_package_and_a_pin():
    """The packages of the roster are installed with the pinned versions."""
    metadata = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    extra = {re.split(r"[<>=]", requirement)[0] for requirement in metadata["guests"]}
    named = {package for guest in GUESTS for package in guest.packages}
    assert extra - named <= {"opentelemetry-sdk"}
    assert named <= extra
    assert named <= set(pinned_versions())

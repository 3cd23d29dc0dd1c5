"""The claims of the metadata and the documents, compared with the table of runs."""

from __future__ import annotations

import re
import tomllib

import pytest

from tests.servers import ROOT

from . import asgi_servers, table
from .cells import CELLS, ENDS, is_run_at

#: Names that readers take for a promise, and the text in a set-up's name or packages that fulfils it.
PROMISES = {
    "uvicorn": "uvicorn", "uvloop": "uvloop", "wsproto": "wsproto", "daphne": "daphne", "granian": "granian",
    "hypercorn": "hypercorn", "gunicorn": "gunicorn", "runserver": "runserver", "PostgreSQL": "PostgreSQL",
    "psycopg2": "psycopg2", "PgBouncer": "PgBouncer", "SERIALIZABLE": "SERIALIZABLE", "ATOMIC_REQUESTS":
    "ATOMIC_REQUESTS", "MariaDB": "MariaDB", "SQLite": "SQLite", "Redis": "Redis", "Valkey": "Valkey", "nginx": "nginx",
    "Celery": "Celery", "django.tasks": "django.tasks", "signed_cookies": "signed_cookies", "cached_db": "cached_db",
}  # fmt: skip
#: Names of systems that were never tested. A document that mentions one must say so.
UNTESTED = ("MySQL", "Oracle")
SAYS_SO = re.compile(r"not\s+(been\s+)?(run|tested)|has\s+never\s+been\s+run", re.IGNORECASE)

DOCUMENTS = ["README.md", *(str(path.relative_to(ROOT)) for path in sorted((ROOT / "docs").rglob("*.md")))]


def completed(rows: list[table.Row]) -> list[table.Row]:
    return [row for row in rows if row.result == table.COMPLETED]


def classifiers(prefix: str) -> list[str]:
    metadata = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found = [line.removeprefix(prefix) for line in metadata["classifiers"] if line.startswith(prefix)]
    return [version for version in found if "." in version]


def unkept_versions(rows: list[table.Row]) -> list[str]:
    """Return the Python and Django versions of the metadata without a completed course."""
    runs = [row for row in completed(rows) if row.group == "versions"]
    pythons, djangos = {table.minor(row.python) for row in runs}, {table.minor(row.django) for row in runs}
    return [
        *(
            f"Python {version}"
            for version in classifiers("Programming Language :: Python :: ")
            if version not in pythons
        ),
        *(f"Django {version}" for version in classifiers("Framework :: Django :: ") if version not in djangos),
    ]


def unkept_promises(text: str, rows: list[table.Row]) -> list[str]:
    """Return the names in a document without a completed course."""
    runs = [f"{row.setup} {row.packages} {row.database}".lower() for row in completed(rows)]
    named = [word for word in PROMISES if re.search(rf"(?<![\w-]){re.escape(word)}(?![\w])", text)]
    return [word for word in named if not any(PROMISES[word].lower() in run for run in runs)]


def silent_about_untested(text: str) -> list[str]:
    """Return the untested names in a document that does not say that they are untested."""
    named = [name for name in UNTESTED if re.search(rf"\b{name}\b", text)]
    return [] if SAYS_SO.search(text) else named


def test_every_version_of_the_metadata_has_been_run() -> None:
    """Each Python and Django among the classifiers has a completed course."""
    assert unkept_versions(table.load()) == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_what_a_document_names_has_been_run(document: str) -> None:
    """Each server, database and store that a document names has a completed course."""
    assert unkept_promises((ROOT / document).read_text(), table.load()) == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_a_document_says_what_has_not_been_run(document: str) -> None:
    """MySQL and Oracle are never mentioned as if they had been tested."""
    assert silent_about_untested((ROOT / document).read_text()) == []


#: The servers of the documentation's table whose command the course starts, by identifying words.
DEPLOYED = {
    "uvicorn": "uvicorn-workers", "gunicorn BindingsWorker": "gunicorn", "gunicorn asgi": "gunicorn-asgi",
    "daphne": "daphne", "hypercorn": "hypercorn", "granian": "granian",
}  # fmt: skip


@pytest.mark.parametrize("words", DEPLOYED)
def test_the_course_starts_a_server_as_the_documentation_does(words: str) -> None:
    """Every option of a documented command is among those of the course."""
    text = (ROOT / "docs" / "deployment.md").read_text()
    program, _, rest = words.partition(" ")
    [command] = [
        line for line in re.findall(r"\| `([^`]+) mysite\.asgi:application`", text)
        if line.split()[0] == program and rest in line
    ]  # fmt: skip
    started = asgi_servers.COMMANDS[DEPLOYED[words]](8000)
    options = {option for option in command.split() if option.startswith("-") and option != "-1"}
    assert options - set(started) == set()


def test_the_course_configures_hypercorn_as_the_documentation_does() -> None:
    """The whole configuration file is in the documentation."""
    assert (asgi_servers.SITE / "hypercorn.toml").read_text() in (ROOT / "docs" / "deployment.md").read_text()


def test_every_cell_is_in_the_table_and_completed() -> None:
    """No cell is missing because it failed, and no row remains from a removed cell."""
    rows = {row.key: row.result for row in table.load()}
    expected = {(cell.group, cell.name, *end.split("/")) for cell in CELLS for end in ENDS if is_run_at(cell, end)}
    assert rows == dict.fromkeys(sorted(expected), table.COMPLETED) | {}, "run: make compat"


def test_the_table_is_read_as_it_was_written() -> None:
    """`parse` is the inverse of `render`."""
    rows = table.load()
    assert table.parse(table.render(rows)) == rows


def test_a_claim_without_a_run_is_reported() -> None:
    """Negative control: a claim without rows, or with failed runs only, is reported."""
    rows = table.load()
    without = [row for row in rows if "granian" not in row.setup]
    failed = [row if row.setup != "granian" else table.Row(*_fields(row), table.FAILED, row.date) for row in rows]
    for broken in (without, failed):
        assert unkept_promises("Deploy it on granian.", broken) == ["granian"]
    assert unkept_promises("Deploy it on granian.", rows) == []
    assert "Python 3.12" in unkept_versions([row for row in rows if not row.python.startswith("3.12")])
    assert silent_about_untested("It runs on MySQL 8.") == ["MySQL"]


def _fields(row: table.Row) -> tuple[str, str, str, str, str, str]:
    return row.group, row.setup, row.packages, row.database, row.python, row.django

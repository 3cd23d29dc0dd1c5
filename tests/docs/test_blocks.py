"""The code blocks of the documentation and of the README: each is run or parsed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

from declbind.core.schema import load_schema, problems, validator
from tests.docs.blocks import Block, find_blocks, read_blocks
from tests.docs.commands import problem_of, split_lines
from tests.servers import ROOT

#: `tests/test_readme.py` runs the blocks of the tutorial that need the tutorial's project.
BLOCKS = [block for block in find_blocks() if not block.reason_not_to_run and block.comment != "project"]
#: How many blocks may be illustrations that nothing runs.
MOST_NOT_RUN = 12
LANGUAGES = {"json", "python", "sh", "html", "js"}
#: Languages that a compiler reads, by the page whose blocks `tests/npm/test_frameworks.py` runs.
COMPILED = {"jsx": "docs/howto/frameworks.md", "vue": "docs/howto/frameworks.md", "text": "docs/howto/frameworks.md"}


def of_language(*languages: str) -> list[object]:
    return [pytest.param(block, id=block.place) for block in BLOCKS if block.language in languages]


# What runs them ---------------------------------------------------------------------------------------------


def run_apart(tasks: Sequence[Mapping[str, object]]) -> dict[int, str]:
    """Run tasks in the runner; return the problems by the task's number."""
    dropped = ("DJANGO", "DATABASE", "TEST")
    env = {key: value for key, value in os.environ.items() if not key.startswith(dropped)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.docs.runner"],
        cwd=ROOT,
        env=env,
        input=json.dumps(list(tasks)),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return {int(number): text for number, text in json.loads(done.stdout).items()}


def python_task(block: Block) -> dict[str, object]:
    return {
        "kind": "python",
        "code": block.code,
        "place": block.place,
        "file": block.file_name,
        "names": block.names,
    }


def read_documents(block: Block) -> list[object]:
    """Return the JSON documents of a block: one, or one for each line."""
    try:
        return [json.loads(block.code)]
    except json.JSONDecodeError:
        return [json.loads(line) for line in block.code.splitlines() if line.strip()]


def schema_of(block: Block, document: Any) -> str:
    """Return the schema that a document follows: by the comment, or by its keys."""
    for word, schema in (("record", "binding"), ("request", "request"), ("frame", "event")):
        if block.comment.startswith(word):
            return schema
    if isinstance(document, list) or "payload" not in document:
        return "binding"
    payload = document["payload"]
    received = {"model", "reason", "ok", "objects"} & set(payload) or "group" in document
    return "event" if received else "request"


def json_problems(block: Block) -> list[str]:
    """Return the problems of the documents of a JSON block by the published schemas."""
    found: list[str] = []
    for document in read_documents(block):
        schema = schema_of(block, document)
        if schema == "binding":
            records = document if isinstance(document, list) else [document]
            found += [str(problem) for record in records for problem in problems(record)]
        else:
            found += [error.message for error in validator(schema).iter_errors(document)]
    return found


def records_of(block: Block) -> list[Any]:
    """Return the records of a JSON block whose models exist here."""
    if block.language != "json" or block.comment == "record of another project":
        return []
    found: list[object] = []
    for document in read_documents(block):
        if schema_of(block, document) == "binding":
            found += document if isinstance(document, list) else [document]
    return found


@pytest.fixture(scope="module")
def outcomes() -> dict[str, str]:
    """Run all Python blocks and validate all records; return the problems by the place of the block."""
    tasks, places = [], []
    for block in BLOCKS:
        if block.language == "python":
            tasks.append(python_task(block))
            places.append(block.place)
        for record in records_of(block):
            tasks.append({"kind": "record", "record": record})
            places.append(block.place)
    return {places[number]: text for number, text in run_apart(tasks).items()}


def script_problem(page: Page, code: str) -> str:
    """Return the syntax error that Chromium finds in a module, "" if there is none; nothing of it is run."""
    parse = """code => {
        const body = code.replace(/^\\s*import\\s*\\{([^}]*)\\}\\s*from\\s*(.*?);?$/gm,
            (_, names, from) => `const {${names.replaceAll(' as ', ': ')}} = await import(${from});`)
            .replace(/^\\s*export /gm, '');
        try { new (Object.getPrototypeOf(async function () {}).constructor)(body); return ''; }
        catch (error) { return String(error); }
    }"""
    return str(page.evaluate(parse, code))


def scripts_of(block: Block) -> list[str]:
    """Return the scripts of a block of HTML, or the block itself."""
    if block.language == "js":
        return [block.code]
    return re.findall(r"<script(?: [^>]*)?>(.*?)</script>", block.code, re.DOTALL)


# The blocks -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", of_language("json"))
def test_json_follows_its_schema(block: Block, outcomes: dict[str, str]) -> None:
    """Records, requests and frames follow the published schemas, and records name what exists."""
    assert json_problems(block) == []
    assert outcomes.get(block.place, "") == ""


@pytest.mark.parametrize("block", of_language("python"))
def test_python_runs(block: Block, outcomes: dict[str, str]) -> None:
    """Python blocks run as they are; the test cases in them pass."""
    assert outcomes.get(block.place, "") == ""


@pytest.mark.parametrize("block", of_language("sh"))
def test_commands_are_understood(block: Block) -> None:
    """Each command is accepted by the parser of its program."""
    assert {line: problem for line in split_lines(block.code) if (problem := problem_of(line))} == {}


@pytest.mark.parametrize("block", of_language("js", "html"))
def test_scripts_are_parsed(block: Block, page: Page) -> None:
    """Chromium finds no syntax error in a script."""
    assert [problem for code in scripts_of(block) if (problem := script_problem(page, code))] == []


def test_every_block_has_a_language_that_is_run() -> None:
    """A block in another language needs a comment with the reason."""
    others = [block for block in BLOCKS if block.language not in LANGUAGES]
    assert [
        f"{block.place}: {block.language!r}" for block in others if COMPILED.get(block.language) != block.page
    ] == []


def test_few_blocks_are_not_run() -> None:
    """Illustrations are few, and each has a reason."""
    left_out = [block for block in find_blocks() if block.comment.startswith("not run")]
    assert [block.place for block in left_out if len(block.reason_not_to_run) < 10] == []
    assert len(left_out) <= MOST_NOT_RUN
    assert {block.page for block in find_blocks() if block.comment == "project"} <= {"docs/tutorials/developer.md"}


# Controls: a broken block of each language is caught --------------------------------------------------------


def broken(language: str, code: str, comment: str = "") -> Block:
    [block] = read_blocks(f"<!-- {comment or 'x'} -->\n```{language}\n{code}\n```\n", "broken.md")
    return block


@pytest.mark.parametrize(
    "code",
    [
        '{"stream": "notes", "model": "notes.Note"}',
        '{"stream": "notes", "model": "notes.Note", "fields": ["text"], "colour": "red"}',
        '{"stream": "notes", "payload": {"action": "subscribe", "since": 7}}',
        '{"stream": "notes", "group": "notes", "offset": -1, "payload": {"action": "resync", "reason": "x"}}',
    ],
)
def test_broken_json_is_caught(code: str) -> None:
    """Control: JSON that a schema refuses is a problem."""
    assert json_problems(broken("json", code)) != []


#: Python blocks that raise an exception, with a part of it.
BROKEN_PYTHON = [
    ("from declbind import WebsocketBindin", "WebsocketBindin"),
    ("import declbind\ndeclbind.touch(1, 2, 3)", "TypeError"),
    ("def broken(:\n    pass", "SyntaxError"),
    ("from declbind import Binding as B\nclass A(B):\n  model, stream, fields = 'notes.Note', 'a', ['x']", "'x'"),
    ("# mysite/settings.py\nDECLBIND = {'POLL_SECOND': 1}", "POLL_SECOND"),
    (
        "from django.test import TestCase\nclass A(TestCase):\n    def test_it(self):\n        assert False",
        "AssertionError",
    ),
    ("raise SystemExit(0)", "SystemExit"),
]
#: A record that only Django refuses.
BROKEN_RECORD = {"stream": "notes", "model": "notes.Note", "fields": ["txt"]}


@pytest.fixture(scope="module")
def complaints() -> dict[int, str]:
    """Run all broken blocks, and last the broken record; return the problems by their numbers."""
    tasks = [python_task(broken("python", code)) for code, _ in BROKEN_PYTHON]
    return run_apart([*tasks, {"kind": "record", "record": BROKEN_RECORD}])


@pytest.mark.parametrize("number", range(len(BROKEN_PYTHON)), ids=[text for _, text in BROKEN_PYTHON])
def test_broken_python_is_caught(number: int, complaints: dict[int, str]) -> None:
    """Control: an exception in a block is a problem."""
    assert BROKEN_PYTHON[number][1] in complaints[number]


def test_a_record_of_a_field_that_does_not_exist_is_caught(complaints: dict[int, str]) -> None:
    """Control: the record is validated against Django."""
    assert "Did you mean 'text'?" in complaints[len(BROKEN_PYTHON)]


@pytest.mark.parametrize(
    "line",
    [
        "python manage.py declbind aply people.json",
        "python manage.py declbind triggers --instal",
        "python manage.py declbind why",
        "python manage.py migrat",
        "python -m pip install declbind[rediss]",
        "python -m pip install declbind daphne-server",
        "make dmeo",
        "uvicorn mysite.asgi:application --prot 8000",
        "frobnicate",
    ],
)
def test_a_broken_command_is_caught(line: str) -> None:
    """Control: an unknown option is a problem."""
    assert problem_of(line) != ""


@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("js", "const a = ;"),
        ("js", "import { connect } from './declbind.js'\nconnect(.)"),
        ("html", "<script>x(</script>"),
    ],
)
def test_a_broken_script_is_caught(language: str, code: str, page: Page) -> None:
    """Control: a syntax error is a problem."""
    [script] = scripts_of(broken(language, code))
    assert script_problem(page, script) != ""


def test_a_block_without_an_end_is_caught() -> None:
    """Control: an unclosed fence is an error."""
    with pytest.raises(ValueError, match=r"broken.md:1: expected ``` after the block"):
        list(read_blocks("```python\nx = 1\n", "broken.md"))


def test_schemas_are_the_published_ones() -> None:
    """The schemas that blocks are compared with are the files that users get."""
    for name in ("binding", "request", "event"):
        assert load_schema(name) == json.loads(Path(ROOT, f"schemas/{name}.schema.json").read_text())

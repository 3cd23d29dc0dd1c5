"""Records in JSON files: found, read and validated one by one."""

import json
from types import SimpleNamespace

import pytest
from django.apps import apps

from declbind.sources import files
from declbind.sources.files import load_files

GOOD = {"model": "auth.User", "fields": ["username"]}


@pytest.fixture
def folder(tmp_path, settings, monkeypatch):
    """Return a folder of records, which is the only one that is searched."""
    settings.DECLBIND = {"RECORD_DIRS": [str(tmp_path)]}
    monkeypatch.setattr(files, "apps", SimpleNamespace(get_app_configs=list))
    return tmp_path


def write(folder, name, content):
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / name).write_text(text, encoding="utf-8")


def test_reads_one_record_and_lists_of_them(folder):
    """A file holds a record or a list. Each record becomes an item with its place."""
    write(folder, "b.json", [{**GOOD, "stream": "two"}, {**GOOD, "stream": "three"}])
    write(folder, "a.json", {**GOOD, "stream": "one", "$schema": "../binding.schema.json"})
    write(folder, "notes.txt", "not read")
    items = load_files()
    assert [(item.stream, item.where) for item in items] == [
        ("one", f"{folder}/a.json"),
        ("two", f"{folder}/b.json[0]"),
        ("three", f"{folder}/b.json[1]"),
    ]
    for item in items:
        assert item.is_usable
        assert item.source == "file"
        assert item.spec is not None
        assert item.spec.stream == item.stream
        assert item.document is not None
        assert item.document["model"] == "auth.User"


def test_a_list_of_one_record_is_a_list(folder):
    """The place of the record includes its index."""
    write(folder, "a.json", [{**GOOD, "stream": "one"}])
    assert [item.where for item in load_files()] == [f"{folder}/a.json[0]"]


@pytest.mark.parametrize(
    "bad",
    [
        {"stream": "bad", "model": "auth.User", "fields": ["usrname"]},
        {"stream": "bad", "model": "auth.User", "feilds": []},
        3,
        None,
        [],
        {"stream": ["bad"]},
    ],
    ids=repr,
)
def test_one_invalid_record_does_not_affect_others(folder, bad):
    """If one of a hundred records is invalid, the others work and it is reported."""
    records = [{**GOOD, "stream": f"s{number}"} for number in range(99)]
    write(folder, "all.json", [*records[:50], bad, *records[50:]])
    items = load_files()
    assert len(items) == 100
    assert sum(item.is_usable for item in items) == 99
    [faulty] = [item for item in items if not item.is_usable]
    assert faulty.where == f"{folder}/all.json[50]"
    assert faulty.problems


def test_a_repeated_key_affects_only_its_record(folder):
    """It is not defined which of the two values counts, so only that record is left out."""
    write(
        folder,
        "all.json",
        '[{"stream": "a", "stream": "b", "model": "auth.User", "fields": []},'
        ' {"stream": "c", "model": "auth.User", "fields": []}]',
    )
    assert [item.is_usable for item in load_files()] == [False, True]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"stream": ', "has a mistake at line 1, column "),
        (b"\xff\xfe\x00", "got one that cannot be read: "),
        (b"", "The file is empty; write [] for no records."),
        (b'"text"', "Expected one binding record or a list of them in "),
        (b"[" * 100_000, "got something that cannot be read: "),
    ],
)
def test_a_file_that_cannot_be_read_is_an_item(folder, content, message):
    """Other files are read, and the fault of this one is reported."""
    (folder / "broken.json").write_bytes(content)
    write(folder, "good.json", {**GOOD, "stream": "one"})
    broken, good = load_files()
    assert good.is_usable
    assert (broken.stream, broken.spec, broken.document) == (None, None, None)
    assert broken.where == f"{folder}/broken.json"
    [problem] = broken.problems
    assert message in problem.message
    assert "broken.json" in problem.message


def test_a_folder_in_the_place_of_a_file_is_an_item(folder):
    """A folder with the name of a file does not stop the reading."""
    (folder / "odd.json").mkdir()
    [item] = load_files()
    assert "cannot be read" in item.problems[0].message


def test_a_byte_order_mark_is_accepted(folder):
    """Some editors on Windows write one."""
    (folder / "a.json").write_bytes(b"\xef\xbb\xbf" + json.dumps({**GOOD, "stream": "one"}).encode())
    assert [item.is_usable for item in load_files()] == [True]


def test_a_missing_folder_is_an_item(settings, folder):
    """A missing folder of the setting is reported."""
    settings.DECLBIND = {"RECORD_DIRS": [str(folder / "nowhere")]}
    [item] = load_files()
    assert str(item.problems[0]) == (
        f"$: Expected a folder at {folder}/nowhere (from DECLBIND['RECORD_DIRS']), found none."
    )


def test_an_empty_folder_and_an_empty_list_are_valid(folder):
    """A project may have no records."""
    assert load_files() == []
    write(folder, "none.json", [])
    assert load_files() == []


def test_reads_the_folders_of_apps(tmp_path, settings, monkeypatch):
    """`bindings/*.json` of an installed app is read without a setting, and only once if a setting names it too."""
    settings.DECLBIND = {}
    config = apps.get_app_config("auth")
    monkeypatch.setattr(config, "path", str(tmp_path))
    bindings = tmp_path / "bindings"
    bindings.mkdir()
    write(bindings, "users.json", {**GOOD, "stream": "users"})
    assert [item.where for item in load_files() if item.stream == "users"] == ["auth/bindings/users.json"]
    settings.DECLBIND = {"RECORD_DIRS": [bindings]}
    assert [item.where for item in load_files() if item.stream == "users"] == [f"{bindings}/users.json"]

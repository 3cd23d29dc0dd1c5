"""The shape of a record: accepted and refused records, messages, and the published schemas themselves."""

import json
from pathlib import Path

import jsonschema
import pytest

from declbind.core import frames
from declbind.core.errors import CODES, ClientError, ConfigError, Problem
from declbind.core.schema import load_schema, parse_documents, problems, validator
from declbind.core.spec import DEFAULTS, KEYS

RECORDS = Path(__file__).parent.parent / "data" / "records"
VALID = json.loads((RECORDS / "valid.json").read_text(encoding="utf-8"))
FAULTY = json.loads((RECORDS / "faulty.json").read_text(encoding="utf-8"))
GOOD: dict = {"stream": "intval", "model": "example.IntegerValue", "fields": ["name"]}
NAMES = ("binding", "request", "event")


def walk_properties(node, path="$"):
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "properties":
                for name, schema in value.items():
                    yield f"{path}.{name}", schema
            yield from walk_properties(value, f"{path}.{key}")
    elif isinstance(node, list):
        for index, item in enumerate(node):
            yield from walk_properties(item, f"{path}[{index}]")


def is_valid_for(document, name):
    return jsonschema.Draft202012Validator(load_schema(name)).is_valid(document)


@pytest.mark.parametrize("case", VALID, ids=lambda case: case["name"])
def test_accepts_a_good_record(case):
    """Each record of the table passes both the validation and the published schema."""
    assert problems(case["record"]) == []
    assert is_valid_for(case["record"], "binding")


@pytest.mark.parametrize("case", FAULTY, ids=lambda case: case["name"])
def test_says_what_is_wrong(case):
    """Each faulty record gets exactly this message: place, expected, got, and the fix."""
    assert [str(problem) for problem in problems(case["record"])] == case["problems"]


@pytest.mark.parametrize(
    ("document", "path"),
    [
        ({**GOOD, "where": {"value": float("nan")}}, "$.where.value"),
        ({**GOOD, "where": {"value": [1, float("inf")]}}, "$.where.value[1]"),
        ({**GOOD, 3: 4}, "$"),
        ({**GOOD, "where": {3: 4}}, "$.where"),
        ({**GOOD, "fields": {"name"}}, "$.fields"),
        ({**GOOD, "description": object()}, "$.description"),
        (object(), "$"),
        ({"a"}, "$"),
        (b"{}", "$"),
    ],
)
def test_survives_what_no_json_holds(document, path):
    """Python values that are not JSON are problems with a path, not exceptions."""
    assert path in [problem.path for problem in problems(document)]


def test_survives_nesting_without_end():
    """A document nested deeper than Python can recurse is a problem of the record."""
    document: list = []
    for _ in range(100_000):
        document = [document]
    assert [problem.path for problem in problems({**GOOD, "where": {"value": document}})] == ["$"]


def test_takes_tuples_for_lists():
    """Records written in Python may hold tuples wherever JSON has lists."""
    assert problems({**GOOD, "fields": ("name",), "where": {"value": (1, 2)}, "groups": ("x-{name}",)}) == []


def test_reports_problems_in_the_order_of_the_record():
    """The problems have the order of the form."""
    found = problems({"description": 1, "groups": 2, "stream": 3, "zebra": 4, "model": "a.B", "fields": []})
    assert [problem.key for problem in found] == ["stream", "groups", "description", "zebra"]


@pytest.mark.parametrize(
    ("path", "key"),
    [("$", ""), ("$.groups[0]", "groups"), ("$.where.a.b", "where"), ('$["a b"]', "a b"), ("$.fields", "fields")],
)
def test_a_problem_knows_its_key(path, key):
    """The key of a problem is the first step of its path."""
    assert Problem(path, "x").key == key


# The published schemas
# -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_schema_is_valid_itself(name):
    """Each published schema is valid JSON Schema 2020-12, and its examples match it."""
    schema = load_schema(name)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    for example in schema["examples"]:
        validator(name).validate(example)


@pytest.mark.parametrize("name", NAMES)
def test_schema_explains_every_property(name):
    """Each property has a title, a description and examples, and the examples fit the property."""
    schema = load_schema(name)
    found = list(walk_properties(schema))
    assert len(found) > 8
    for path, node in found:
        assert node.get("title"), path
        assert node.get("description", "").endswith("."), path
        assert node.get("examples"), path
        for example in node["examples"]:
            checked = jsonschema.Draft202012Validator({**node, "$defs": schema["$defs"]})
            assert checked.is_valid(example), (path, example)


def test_schema_and_spec_name_the_same_keys():
    """The schema's properties are the spec's attributes, in one order, with the same defaults."""
    properties = load_schema("binding")["properties"]
    assert tuple(key for key in properties if key != "$schema") == KEYS
    assert load_schema("binding")["additionalProperties"] is False
    for key, node in properties.items():
        if "default" in node:
            default = DEFAULTS[key]
            assert node["default"] == (list(default) if isinstance(default, tuple) else default), key


def test_error_codes_are_published():
    """The event schema contains exactly the error codes that the code can send."""
    refused = load_schema("event")["$defs"]["refused"]["properties"]["error"]["properties"]
    assert tuple(refused["code"]["enum"]) == CODES


def test_client_error_refuses_an_unknown_code():
    """A code that is not published cannot be sent."""
    with pytest.raises(ValueError, match="'forbidden'"):
        ClientError("forbidden", "No.")


REQUESTS = [
    {"action": "create", "data": {"name": "x"}, "ref": 1},
    {"action": "create", "data": {}, "pk": 7, "key": "k"},
    {"action": "update", "pk": 1, "data": {"value": 1}, "ref": None, "if": {"value": 0}},
    {"action": "update", "pk": "0b1f", "data": {}},
    {"action": "delete", "pk": 1, "ref": "r"},
    {"action": "subscribe"},
    {"action": "subscribe", "params": {"room_id": 3}, "snapshot": True, "ref": 1.5},
    {"action": "subscribe", "params": {}, "since": {"epoch": "e", "offset": 0}},
    {"action": "unsubscribe", "params": {"room_id": 3}},
]
NO_REQUESTS = [
    {},
    {"action": "dance"},
    {"action": "create", "data": []},
    {"action": "update", "data": {}},
    {"action": "update", "pk": None, "data": {}},
    {"action": "delete", "pk": [1]},
    {"action": "delete"},
    {"action": "subscribe", "params": []},
    {"action": "subscribe", "snapshot": 1},
    {"action": "subscribe", "since": {"epoch": "e"}},
    {"action": "subscribe", "since": {"epoch": "e", "offset": -1}},
    {"action": "delete", "pk": 1, "key": ""},
    {"action": "delete", "pk": 1, "if": []},
]


def read(payload):
    text = json.dumps({"stream": "s", "payload": payload})
    return frames.parse_request(frames.parse_envelope(text, max_bytes=65536, max_depth=16))


@pytest.mark.parametrize("payload", REQUESTS, ids=json.dumps)
def test_published_requests_are_understood(payload):
    """The parser accepts the requests that the request schema allows."""
    assert is_valid_for({"stream": "s", "payload": payload}, "request")
    assert read(payload).action == payload["action"]


@pytest.mark.parametrize("payload", NO_REQUESTS, ids=json.dumps)
def test_requests_that_are_refused_break_the_schema(payload):
    """The request schema does not allow requests that the parser refuses because of their types."""
    assert not is_valid_for({"stream": "s", "payload": payload}, "request")
    with pytest.raises(ClientError):
        read(payload)


CHANGE = frames.encode_payload("update", "1", '{"value":51}', "example.integervalue")
FRAMES = [
    frames.encode_plain("intval", CHANGE),
    frames.encode_tagged("intval", "room-3", 7, CHANGE),
    frames.encode_reply("intval", 1, {"pk": 1}),
    frames.encode_reply("intval", None, {"group": "room-3", "epoch": "e", "offset": 7}),
    frames.encode_refusal("", "r", ClientError("invalid", "No.", {"name": ["Too long."]})),
    frames.encode_snapshot("intval", "room-3", 7, "example.integervalue", [("1", "{}")], True),
    frames.encode_resync("intval", "room-3", 7, "config"),
    frames.encode_closed("intval", "room-3", 7, "changed"),
    frames.encode_moving(),
    frames.encode_expiring(30),
    frames.encode_reply("", 1, {"seconds": 300}),
    frames.encode_reply("", 1, {"seconds": None}),
]


@pytest.mark.parametrize("frame", FRAMES)
def test_frames_fit_the_event_schema(frame):
    """The event schema describes the frames that the server writes."""
    assert is_valid_for(json.loads(frame), "event")


@pytest.mark.parametrize(
    "frame",
    [
        frames.encode_plain("intval", CHANGE[:-1] + ',"extra":1}'),
        frames.encode_plain("intval", '{"action":"resync","reason":"config"}'),
        frames.encode_tagged("intval", "room 3", 7, CHANGE),
        frames.encode_tagged("intval", "room-3", 7, '{"action":"reply","ref":1,"ok":true}'),
        frames.encode_resync("intval", "room-3", 7, "boredom"),
        frames.encode_closed("intval", "room-3", 7, "config"),
        frames.encode_moving().replace('"stream":""', '"stream":"intval"'),
        '{"stream":"","payload":{"action":"moving"}}',
        frames.encode_expiring(31),
        frames.encode_expiring(-1),
        frames.encode_plain("intval", CHANGE.replace("integervalue", "IntegerValue")),
        '{"stream":"intval","payload":{"action":"reply","ref":1,"ok":false}}',
    ],
)
def test_event_schema_refuses_other_frames(frame):
    """The event schema is closed: an extra key, an unknown reason or a mixed form is invalid."""
    assert not is_valid_for(json.loads(frame), "event")


# Files
# -----------------------------------------------------------------------------------------------------------


def test_parses_one_record_or_a_list():
    """A file holds one record or several; both are returned as a list."""
    assert parse_documents(json.dumps(GOOD), "x.json") == [GOOD]
    assert parse_documents(json.dumps([GOOD, 3]), "x.json") == [GOOD, 3]
    assert parse_documents("[]", "x.json") == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '[\n  {"stream": "a",}\n]',
            "The JSON in x.json has a mistake at line 2, column ",
        ),
        ("", "a mistake at line 1, column 1: Expecting value. The file is empty; write [] for no records."),
        ("{'a': 1}", 'Strings stand in double quotes: "name".'),
        ("3", "Expected one binding record or a list of them in x.json, got 3."),
        ("[" * 100_000, "Expected JSON in x.json, got something that cannot be read"),
        ("[" + "9" * 5000 + "]", "Expected JSON in x.json, got something that cannot be read"),
    ],
)
def test_says_where_a_file_is_no_json(text, message):
    """The message for an unreadable file gives line and column."""
    with pytest.raises(ConfigError) as caught:
        parse_documents(text, "x.json")
    assert message in str(caught.value)
    assert [problem.path for problem in caught.value.problems] == ["$"]


def test_a_key_named_twice_spoils_only_its_record():
    """JSON does not define which of two equal keys applies, so only that record is refused."""
    first, second = parse_documents(
        '[{"stream": "a", "stream": "b", "model": "x.Y", "fields": []}, {"stream": "c", "model": "x.Y", "fields": []}]',
        "x.json",
    )
    assert [str(problem) for problem in problems(first)] == [
        "$.stream: Expected each key once, got 'stream' more than once. Keep one of them."
    ]
    assert problems(second) == []


def test_a_key_named_twice_is_seen_at_any_depth():
    """The rule holds inside the record's objects too."""
    [record] = parse_documents(
        '{"stream": "a", "model": "x.Y", "fields": [], "permissions": {"view": false, "view": true}}', "x.json"
    )
    assert [problem.path for problem in problems(record)] == ["$.permissions.view"]

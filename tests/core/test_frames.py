"""The wire format: accepted and refused requests, and the agreement of written frames with the schema."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from declbind.core import frames
from declbind.core.errors import CODES, ClientError
from declbind.core.frames import MISSING, Envelope, RequestError, Since, parse_envelope, parse_request, parse_token
from declbind.core.schema import load_schema

MAX_BYTES = 65_536
MAX_DEPTH = 16
EVENT = Draft202012Validator(load_schema("event"))
REQUEST = Draft202012Validator(load_schema("request"))

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    # Text that UTF-8 can encode: half a surrogate pair is refused on input.
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
scalars = st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def parse(text):
    return parse_envelope(text, max_bytes=MAX_BYTES, max_depth=MAX_DEPTH)


def frame(payload, stream="intval"):
    return json.dumps({"stream": stream, "payload": payload})


def refused(text):
    with pytest.raises(RequestError) as caught:
        parse(text)
    return caught.value


def nested(depth):
    """Return a frame whose JSON is ``depth`` levels deep: the frame and its payload are two of them."""
    return '{"stream":"s","payload":{"ref":1,"x":' + "[" * (depth - 2) + "]" * (depth - 2) + "}}"


# Envelopes ----------------------------------------------------------------------------------------------------------


def test_frame_is_taken_apart_into_stream_payload_and_ref():
    """An ordinary request is split into stream, payload and ref."""
    payload = {"action": "update", "pk": 1, "data": {"value": 51}, "ref": 7}
    assert parse(frame(payload)) == Envelope("intval", payload, 7)


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), json_values, max_size=4))
def test_payload_survives_the_way_through_text(payload):
    """The parsed payload is exactly the JSON that a client sent, including large whole numbers."""
    assert parse(frame(payload)).payload == payload


@pytest.mark.parametrize("ref", [0, "", False, None, 1.5, "save-7", 2**80])
def test_any_scalar_is_a_ref(ref):
    """A ref that is falsy, or null, asks for a reply like any other."""
    assert parse(frame({"ref": ref})).ref == ref


@pytest.mark.parametrize("payload", [{}, {"ref": []}, {"ref": {}}])
def test_no_scalar_ref_means_that_no_reply_is_wanted(payload):
    """A ref that cannot be returned unchanged counts as none."""
    assert parse(frame(payload)).ref is MISSING


MALFORMED = {
    "": "Expected JSON",
    "{": "Expected JSON",
    "hello": "Expected JSON",
    "\ufeff{}": "Expected JSON",
    "{'stream': 1}": "Expected JSON",
    '{"stream":"s","payload":{}} x': "Expected JSON",
    '{"stream":"s","payload":{"x":NaN}}': "NaN is not JSON",
    '{"stream":"s","payload":{"x":Infinity}}': "Infinity is not JSON",
    '{"stream":"s","payload":{"x":-Infinity}}': "-Infinity is not JSON",
    '{"stream":"s","payload":{"x":1e999}}': "1e999 is too large a number",
    '{"stream":"s","payload":{"x":-1e999}}': "-1e999 is too large a number",
    '{"stream":"s","payload":{"x":' + "9" * 5000 + "}}": "Expected numbers of at most 1000 digits",
    '{"stream":"s","payload":{"x":1,"x":2}}': "the key 'x' stands twice",
    '{"stream":"s","stream":"t","payload":{}}': "the key 'stream' stands twice",
    '{"stream":"s","payload":{"x":{"\\u0061":1,"a":1}}}': "the key 'a' stands twice",
    "[" * 30_000: "at most 16 levels",
    '{"a":' * 10_000: "at most 16 levels",
    "[]": "got a list",
    "null": "got null",
    "1": "got 1",
    '"x"': "got a string",
    "true": "got true or false",
    "{}": "Expected a string under 'stream', got null",
    '{"stream":1,"payload":{}}': "Expected a string under 'stream', got 1",
    '{"stream":["s"],"payload":{}}': "Expected a string under 'stream', got a list",
    '{"stream":"s"}': "Expected an object under 'payload', got null",
    '{"stream":"s","payload":[]}': "Expected an object under 'payload', got a list",
    '{"stream":"s","payload":"{}"}': "Expected an object under 'payload', got a string",
    '{"stream":"s","payload":{"x":"\\ud800"}}': "a lone surrogate",
    '{"stream":"s","payload":{"\\udfff":1}}': "a lone surrogate",
    '{"stream":"\\ud800","payload":{}}': "a lone surrogate",
    '{"stream":"s","payload":{"x":"\ud800"}}': "a lone surrogate",
    nested(17): "at most 16 levels",
    nested(400): "at most 16 levels",
}


@pytest.mark.parametrize(("text", "message"), MALFORMED.items(), ids=lambda text: ascii(text)[:40])
def test_hostile_text_is_refused_as_malformed(text, message):
    """Each kind of malformed text has an answer that says what was expected, and raises no other exception."""
    error = refused(text)
    assert (error.code, message in error.message) == ("malformed", True), error.message


def test_json_at_the_limit_of_depth_is_read():
    """Sixteen levels are allowed; the seventeenth is refused."""
    assert parse(nested(16)).ref == 1


def test_a_whole_pair_of_surrogate_escapes_is_an_ordinary_character():
    """JSON writes characters beyond the first plane as two escapes, which are one character and not two halves."""
    assert parse('{"stream":"s","payload":{"x":"\\ud83d\\ude00"}}').payload == {"x": "\U0001f600"}


@pytest.mark.parametrize("filler", ["a", "ü", "\U0001f600"])
def test_frame_is_measured_in_bytes(filler):
    """The limit counts UTF-8 bytes, not characters."""
    room = MAX_BYTES - len(frame({"x": ""}).encode())
    fits = f'{{"stream": "intval", "payload": {{"x": "{filler * (room // len(filler.encode()))}"}}}}'
    assert parse(fits).stream == "intval"
    assert refused(fits.replace(filler, filler * 2, 1) + " " * 4).code == "too_large"


@pytest.mark.parametrize(
    ("text", "stream", "ref"),
    [
        (nested(20), "s", 1),
        ('{"stream":"s","payload":{"ref":2,"x":"\\ud800"}}', "s", 2),
        ('{"stream":5,"payload":{"ref":3}}', "", 3),
        ('{"stream":"s","payload":5}', "s", MISSING),
        ("{", "", MISSING),
    ],
)
def test_refusal_keeps_what_could_be_read(text, stream, ref):
    """The answer carries the client's ref, as far as the frame could be read."""
    error = refused(text)
    assert (error.stream, error.ref) == (stream, ref)


@pytest.mark.parametrize(
    "half", ['{"stream":"\\ud800","payload":{"ref":1}}', '{"stream":"s","payload":{"ref":"\\ud800"}}']
)
def test_refusal_of_half_a_surrogate_pair_can_be_sent(half):
    """The answer writes a stream or ref that UTF-8 cannot encode as its escape, so that the socket survives."""
    error = refused(half)
    text = frames.encode_refusal(error.stream, error.ref, error)
    sent = json.loads(text.encode())
    assert (sent["stream"], sent["payload"]["ref"]) == (error.stream, error.ref)


def test_thousands_of_names_with_one_twice_are_refused_at_once():
    """Finding a duplicate name takes time in proportion to the frame, not to its square."""
    names = [f'"{number:x}":0' for number in range(7_000)]
    text = '{"stream":"s","payload":{' + ",".join([*names, names[-1]]) + "}}"
    started = time.perf_counter()
    assert "stands twice" in refused(text).message
    assert time.perf_counter() - started < 0.5


def test_error_texts_stay_short():
    """No refusal repeats a frame of 64 KiB in its text."""
    long = "x" * 60_000
    texts = [f'{{"{long}":1,"{long}":2}}', "9" * 4000, f'{{"stream":"s","payload":"{long}"}}']
    assert max(len(refused(text).message) for text in texts) < 200
    with pytest.raises(RequestError) as caught:
        parse_request(Envelope("s", {"action": long}))
    assert len(caught.value.message) < 200


# Requests -----------------------------------------------------------------------------------------------------------

SINCE = {"epoch": "5f2c9a", "offset": 0}
ACCEPTED = [
    {"action": "create", "data": {}},
    {"action": "create", "data": {"x": [1, {}]}, "pk": [1], "ref": None},
    {"action": "create", "data": {}, "key": "k" * 200, "if": {}},
    {"action": "update", "pk": 0, "data": {}},
    {"action": "update", "pk": False, "data": {"x": None}, "if": {"x": 1}},
    {"action": "update", "pk": "6f1b2c1e", "data": {}, "params": 5, "snapshot": "ignored", "since": 1},
    {"action": "update", "pk": 2**80, "data": {}},
    {"action": "delete", "pk": 1.5},
    {"action": "delete", "pk": "", "data": "ignored"},
    {"action": "subscribe"},
    {"action": "subscribe", "params": {}, "snapshot": True, "since": None},
    {"action": "subscribe", "params": {"room_id": 3, "day": None}, "since": SINCE, "key": 5, "if": "ignored"},
    {"action": "subscribe", "since": {"epoch": "", "offset": 2**80, "more": 1}},
    {"action": "unsubscribe", "params": {"room_id": "3"}},
]
REFUSED = [
    ({}, "unknown_action", "got None"),
    ({"action": 1}, "unknown_action", "got 1"),
    ({"action": ["create"]}, "unknown_action", "got ['create']"),
    ({"action": {"create": 1}}, "unknown_action", "got {'create': 1}"),
    ({"action": "Create", "data": {}}, "unknown_action", "got 'Create'"),
    ({"action": "reply"}, "unknown_action", "got 'reply'"),
    ({"action": "create"}, "malformed", "'data', got none"),
    ({"action": "create", "data": None}, "malformed", "'data', got null"),
    ({"action": "create", "data": []}, "malformed", "'data', got a list"),
    ({"action": "update", "pk": 1}, "malformed", "'data', got none"),
    ({"action": "update", "data": {}}, "malformed", "'pk' of the row to update, got none"),
    ({"action": "update", "pk": None, "data": {}}, "malformed", "'pk' of the row to update, got null"),
    ({"action": "update", "pk": [1], "data": {}}, "malformed", "'pk' of the row to update, got a list"),
    ({"action": "update", "pk": 1, "data": "x"}, "malformed", "'data', got a string"),
    ({"action": "delete"}, "malformed", "'pk' of the row to delete, got none"),
    ({"action": "delete", "pk": {}}, "malformed", "'pk' of the row to delete, got an object"),
    ({"action": "delete", "pk": 1, "key": ""}, "malformed", "'key', got a string"),
    ({"action": "delete", "pk": 1, "key": "k" * 201}, "malformed", "'key', got a string"),
    ({"action": "delete", "pk": 1, "key": 5}, "malformed", "'key', got 5"),
    ({"action": "delete", "pk": 1, "key": None}, "malformed", "'key', got null"),
    ({"action": "delete", "pk": 1, "if": []}, "malformed", "'if', got a list"),
    ({"action": "delete", "pk": 1, "if": None}, "malformed", "'if', got null"),
    ({"action": "subscribe", "params": []}, "malformed", "'params', got a list"),
    ({"action": "subscribe", "params": None}, "malformed", "'params', got null"),
    ({"action": "subscribe", "snapshot": 1}, "malformed", "'snapshot', got 1"),
    ({"action": "subscribe", "snapshot": None}, "malformed", "'snapshot', got null"),
    ({"action": "subscribe", "since": 5}, "malformed", "'since', got 5"),
    ({"action": "subscribe", "since": {}}, "malformed", "'since', got {}"),
    ({"action": "subscribe", "since": {"epoch": 5, "offset": 1}}, "malformed", "'since'"),
    ({"action": "subscribe", "since": {"epoch": "e"}}, "malformed", "'since'"),
    ({"action": "subscribe", "since": {**SINCE, "offset": -1}}, "malformed", "'since'"),
    ({"action": "subscribe", "since": {**SINCE, "offset": True}}, "malformed", "'since'"),
    ({"action": "subscribe", "since": {**SINCE, "offset": "1"}}, "malformed", "'since'"),
    ({"action": "subscribe", "since": {**SINCE, "offset": 1.5}}, "malformed", "'since'"),
    ({"action": "unsubscribe", "params": "x"}, "malformed", "'params', got a string"),
]


@pytest.mark.parametrize("envelope", [{"stream": ""}, {"stream": "intval"}, {}])
def test_authenticate_is_about_the_connection_and_needs_no_stream(envelope):
    """Any stream, or none, means the same."""
    content = {**envelope, "payload": {"action": "authenticate", "token": "t", "ref": 1}}
    assert parse_token(parse(json.dumps(content))) == "t"
    assert REQUEST.is_valid(content)


@pytest.mark.parametrize(
    ("payload", "came"),
    [({}, "none"), ({"token": None}, "null"), ({"token": 1234567}, "a number"), ({"token": ["t"]}, "a list")],
)
def test_authenticate_without_a_token_is_malformed(payload, came):
    """The answer does not repeat what came: it may be a secret."""
    content = {"stream": "", "payload": {"action": "authenticate", "ref": 1, **payload}}
    with pytest.raises(RequestError, match=f"'token', got {came}") as caught:
        parse_token(parse(json.dumps(content)))
    assert (caught.value.code, caught.value.ref) == ("malformed", 1)
    assert not REQUEST.is_valid(content)


def test_other_requests_need_a_stream():
    """It is left out for what is about the connection only."""
    content = {"payload": {"action": "subscribe"}}
    assert refused(json.dumps(content)).code == "malformed"
    assert not REQUEST.is_valid(content)


@pytest.mark.parametrize("payload", ACCEPTED, ids=repr)
def test_accepted_request_fits_the_published_schema(payload):
    """The parser accepts requests that ``request.schema.json`` describes."""
    envelope = parse(frame(payload))
    parse_request(envelope)
    assert list(REQUEST.iter_errors({"stream": envelope.stream, "payload": payload})) == []


@pytest.mark.parametrize(("payload", "code", "message"), REFUSED, ids=lambda value: repr(value)[:60])
def test_refused_request_breaks_the_published_schema(payload, code, message):
    """Requests that the parser refuses do not fit the schema, and the answer names the key and the value."""
    envelope = parse(frame({**payload, "ref": 9}))
    with pytest.raises(RequestError) as caught:
        parse_request(envelope)
    error = caught.value
    assert (error.code, error.stream, error.ref) == (code, "intval", 9)
    assert message in error.message
    assert not REQUEST.is_valid({"stream": "intval", "payload": payload})


@pytest.mark.parametrize("payload", [ACCEPTED[2], ACCEPTED[4]], ids=repr)
def test_mutation_carries_its_keys(payload):
    """Each key of a mutation is parsed under its name."""
    request = parse_request(Envelope("intval", payload, 3))
    assert request.is_mutation
    assert (request.action, request.data, request.ref) == (payload["action"], payload["data"], 3)
    assert (request.key, request.condition) == (payload.get("key"), payload["if"])
    assert request.pk == payload.get("pk")


def test_create_forgets_a_pk_that_was_sent():
    """The server chooses keys, so the client's key is dropped and cannot be used by mistake."""
    assert parse_request(Envelope("s", {"action": "create", "pk": 5, "data": {}})).pk is None


def test_subscription_carries_its_keys():
    """Params, snapshot and since are parsed under their names, since as a pair."""
    request = parse_request(
        Envelope("s", {"action": "subscribe", "params": {"a": 1}, "snapshot": True, "since": SINCE})
    )
    assert not request.is_mutation
    assert (request.params, request.snapshot, request.since) == ({"a": 1}, True, Since("5f2c9a", 0))


# Frames to clients --------------------------------------------------------------------------------------------------


def assert_published(text):
    """Decode a frame after checking that it is compact JSON in UTF-8 and fits ``event.schema.json``."""
    text.encode()
    content = json.loads(text)
    assert [error.message for error in EVENT.iter_errors(content)] == []
    return content


@given(st.sampled_from(["create", "update", "delete"]), st.integers() | st.uuids().map(str), json_values)
def test_change_reads_back_as_it_was_written(action, pk, value):
    """A change has exactly the four keys of Channels 1.x, plain and tagged, whatever the row holds."""
    payload = frames.encode_payload(action, frames.encode(pk), frames.encode({"x": value}), "app.model")
    change = {"action": action, "pk": pk, "data": {"x": value}, "model": "app.model"}
    assert assert_published(frames.encode_plain("s", payload)) == {"stream": "s", "payload": change}
    tagged = assert_published(frames.encode_tagged("s", "room-3", 7, payload))
    assert tagged == {"stream": "s", "group": "room-3", "offset": 7, "payload": change}


@given(scalars)
def test_reply_gives_the_ref_back(ref):
    """A client finds its request by the ref, whatever scalar that is."""
    content = assert_published(frames.encode_reply("s", ref, {"pk": 5}))
    assert content["payload"] == {"action": "reply", "ref": ref, "ok": True, "pk": 5}


@pytest.mark.parametrize("code", CODES)
def test_refusal_says_code_message_and_fields(code):
    """Every error code in the code is in the published schema."""
    error = ClientError(code, "No.", {"value": ["Too small.", "Odd."]})
    content = assert_published(frames.encode_refusal("s", 1, error))
    assert content["payload"]["error"] == {
        "code": code, "message": "No.", "fields": {"value": ["Too small.", "Odd."]},
    }  # fmt: skip
    assert content["payload"]["ok"] is False


def test_refusal_of_an_unreadable_frame_has_an_empty_stream():
    """If no stream could be read, the answer is still a frame."""
    assert assert_published(frames.encode_refusal("", 1, ClientError("malformed", "x")))["stream"] == ""


@pytest.mark.parametrize("objects", [[], [("1", '{"a":1}')], [("1", "{}"), ('"x"', '{"ü":null}')]])
def test_snapshot_is_a_page_of_rows(objects):
    """A page reads back as the rows it was made of, also if it is empty."""
    for final in (True, False):
        content = assert_published(frames.encode_snapshot("s", "g", 3, "app.model", objects, final))
        rows = [{"pk": json.loads(pk), "data": json.loads(data)} for pk, data in objects]
        assert content["payload"] == {"action": "snapshot", "model": "app.model", "objects": rows, "final": final}
        assert (content["group"], content["offset"]) == ("g", 3)


@pytest.mark.parametrize("reason", ["expired", "epoch", "overflow", "bulk", "config"])
def test_resync_is_published(reason):
    """Each reason for a resync is in the published schema."""
    assert assert_published(frames.encode_resync("s", "g", 0, reason))["payload"]["reason"] == reason


@pytest.mark.parametrize("reason", ["permission", "disabled", "removed", "changed"])
def test_closed_is_published(reason):
    """Each reason for the end of a subscription is in the published schema."""
    assert assert_published(frames.encode_closed("s", "g", 0, reason))["payload"]["reason"] == reason


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"x": [float("-inf")]}])
def test_no_frame_with_a_number_that_json_lacks_is_written(value):
    """A browser's parser would throw on it, so the encoder raises."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        frames.encode(value)


def test_published_check_is_not_vacuous():
    """A change with a fifth key, or a pk of null, fails the check that the tests above rely on."""
    change = {"action": "update", "pk": 1, "data": {}, "model": "app.model"}
    for wrong in ({**change, "x": 1}, {**change, "pk": None}, {**change, "model": "app.Model"}):
        with pytest.raises(AssertionError):
            assert_published(json.dumps({"stream": "s", "payload": wrong}))

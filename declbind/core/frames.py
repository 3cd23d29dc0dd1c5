"""The wire format: JSON text frames in the multiplexing envelope of Channels 1.x.

The frames are published in ``schemas/request.schema.json`` and ``schemas/event.schema.json``. No other module builds or
parses frames. Change frames are joined from JSON text that was encoded once, when the event was written.
"""

from __future__ import annotations

import functools
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from .errors import ClientError

MUTATIONS: Final = frozenset({"create", "update", "delete"})
ACTIONS: Final = MUTATIONS | {"subscribe", "unsubscribe"}
#: The action of the request that is about the connection and not about a stream.
AUTHENTICATE: Final = "authenticate"
#: The action of a change that is not logged row by row: the data of a subscriber may be stale.
RESYNC: Final = "resync"
#: Stands for all groups of a stream, in a change whose groups are not known. No group can have this name.
EVERY_GROUP: Final = "*"
MAX_KEY_LENGTH: Final = 200
#: The WebSocket subprotocol in which a text frame may be a JSON array of frames. It is used if more than one waits.
BATCH_PROTOCOL: Final = "declbind.batch.v1"
#: The WebSocket subprotocol of a client that takes one frame at a time and must offer one in addition to its token.
PLAIN_PROTOCOL: Final = "declbind.v1"


class _Missing:
    def __repr__(self) -> str:
        return "<not sent>"


#: The value of a key that the client did not send, because ``null`` would mean something else.
MISSING: Final = _Missing()

type_name = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}


class RequestError(ClientError):
    """A frame that cannot be carried out, with the ``stream`` and ``ref`` that could still be read, for the reply."""

    def __init__(self, code: str, message: str, *, stream: str = "", ref: object = MISSING) -> None:
        super().__init__(code, message)
        self.stream = stream
        self.ref = ref


@dataclass(frozen=True, slots=True)
class Envelope:
    """One frame from a client: the stream, its payload (any object), and the ``ref`` if a reply is wanted."""

    stream: str
    payload: Mapping[str, object]
    ref: object = MISSING


@dataclass(frozen=True, slots=True)
class Since:
    """The place from which a client resumes: an epoch, the last offset seen, and the proof of an earlier reply."""

    epoch: str
    offset: int
    resume: str | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """One request whose keys have been checked for type. Their meaning for a model is checked later."""

    stream: str
    action: str
    payload: Mapping[str, object]
    ref: object = MISSING
    pk: object = None
    data: Mapping[str, object] = field(default_factory=dict)
    params: Mapping[str, object] = field(default_factory=dict)
    snapshot: bool = False
    since: Since | None = None
    key: str | None = None
    condition: Mapping[str, object] | None = None

    @property
    def is_mutation(self) -> bool:
        """Whether the request writes."""
        return self.action in MUTATIONS


def parse_envelope(text: str, *, max_bytes: int, max_depth: int, max_digits: int = 1_000) -> Envelope:
    """Parse one text frame.

    It refuses invalid JSON, NaN and infinities (also as ``1e999``), numbers of more than ``max_digits`` characters,
    duplicate keys, nesting deeper than ``max_depth``, and lone surrogates (no database stores them).

    Raises:
        RequestError: The frame is refused (``too_large`` or ``malformed``).
    """
    if len(text) > max_bytes or len(text.encode("utf-8", "surrogatepass")) > max_bytes:
        raise RequestError("too_large", f"Expected a frame of at most {max_bytes} bytes.")
    numbers = _Numbers(max_digits)
    hooks: dict[str, Any] = {"parse_float": _finite}
    if len(text) > max_digits and _long_run(max_digits).search(text):
        # Only in this case, because a hook costs a call for each number. The digits may also be inside a string.
        hooks = {"parse_int": numbers.parse_int, "parse_float": numbers.parse_float}
    try:
        content = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant, **hooks)
    except RecursionError:
        raise RequestError("malformed", f"Expected JSON at most {max_depth} levels deep.") from None
    except ValueError as error:
        raise RequestError("malformed", f"Expected JSON: {error}.") from None
    if not isinstance(content, dict):
        raise RequestError("malformed", f"Expected an object with stream and payload, got {describe(content)}.")
    stream, payload = content.get("stream"), content.get("payload")
    if "stream" not in content and isinstance(payload, dict) and payload.get("action") == AUTHENTICATE:
        stream = ""
    ref = _ref(payload)
    known_stream = stream if isinstance(stream, str) else ""
    if not isinstance(stream, str):
        raise RequestError("malformed", f"Expected a string under 'stream', got {describe(stream)}.", ref=ref)
    if not isinstance(payload, dict):
        raise RequestError(
            "malformed", f"Expected an object under 'payload', got {describe(payload)}.", stream=known_stream
        )
    if _deeper_than(content, max_depth):
        raise RequestError("malformed", f"Expected JSON at most {max_depth} levels deep.", stream=known_stream, ref=ref)
    if numbers.problem:
        raise RequestError("malformed", numbers.problem, stream=known_stream, ref=ref)
    if _has_surrogate(text) or ("\\u" in text and _has_surrogate(json.dumps(content, ensure_ascii=False))):
        raise RequestError("malformed", "Expected Unicode text, got a lone surrogate.", stream=known_stream, ref=ref)
    return Envelope(stream, payload, ref)


def parse_request(envelope: Envelope) -> Request:
    """Check the types of the keys that the action takes. Other keys are ignored, as ``request.schema.json`` says.

    Raises:
        RequestError: The action is unknown or a key has the wrong type (``unknown_action``, ``malformed``).
    """
    payload = envelope.payload

    def error(message: str, code: str = "malformed") -> RequestError:
        return RequestError(code, message, stream=envelope.stream, ref=envelope.ref)

    action = payload.get("action")
    if not isinstance(action, str) or action not in ACTIONS:
        known = ", ".join(sorted({*ACTIONS, AUTHENTICATE}))
        raise error(f"Expected an action of {known}; got {action!r:.60}.", "unknown_action")
    keys = _mutation_keys(action, payload, error) if action in MUTATIONS else _subscription_keys(payload, error)
    return Request(stream=envelope.stream, action=action, payload=payload, ref=envelope.ref, **keys)


def parse_token(envelope: Envelope) -> str:
    """Return the token of an ``authenticate`` request.

    Raises:
        RequestError: There is no token (``malformed``).
    """
    token = envelope.payload.get("token")
    if not isinstance(token, str):
        came = type_name.get(type(token), "a number") if "token" in envelope.payload else "none"
        raise RequestError(
            "malformed", f"Expected a string under 'token', got {came}.", stream=envelope.stream, ref=envelope.ref
        )
    return token


def _mutation_keys(action: str, payload: Mapping[str, object], error: Callable[[str], RequestError]) -> dict[str, Any]:
    keys: dict[str, Any] = {}
    if action != "create":
        keys["pk"] = pk = payload.get("pk")
        if pk is None or isinstance(pk, dict | list):
            raise error(f"Expected 'pk' of the row to {action}, got {_describe_key(payload, 'pk')}.")
    if action != "delete":
        keys["data"] = payload.get("data")
        if not isinstance(keys["data"], dict):
            raise error(f"Expected an object under 'data', got {_describe_key(payload, 'data')}.")
    if "key" in payload:
        keys["key"] = key = payload["key"]
        if not isinstance(key, str) or not 0 < len(key) <= MAX_KEY_LENGTH:
            raise error(f"Expected a string of 1 to {MAX_KEY_LENGTH} characters under 'key', got {describe(key)}.")
    if "if" in payload:
        keys["condition"] = condition = payload["if"]
        if not isinstance(condition, dict):
            raise error(f"Expected an object of field: expected value under 'if', got {describe(condition)}.")
    return keys


def _subscription_keys(payload: Mapping[str, object], error: Callable[[str], RequestError]) -> dict[str, Any]:
    params, snapshot = payload.get("params", {}), payload.get("snapshot", False)
    if not isinstance(params, dict):
        raise error(f"Expected an object under 'params', got {describe(params)}.")
    if not isinstance(snapshot, bool):
        raise error(f"Expected true or false under 'snapshot', got {describe(snapshot)}.")
    return {"params": params, "snapshot": snapshot, "since": _since(payload.get("since"), error)}


def _since(value: object, error: Callable[[str], RequestError]) -> Since | None:
    if value is None:
        return None
    if isinstance(value, dict):
        epoch, offset, resume = value.get("epoch"), value.get("offset"), value.get("resume")
        if (
            isinstance(epoch, str)
            and isinstance(offset, int)
            and not isinstance(offset, bool)
            and offset >= 0
            and isinstance(resume, str | None)
        ):
            return Since(epoch, offset, resume)
    raise error(
        f'Expected {{"epoch": string, "offset": number, "resume": string}} under \'since\', got {value!r:.100}.'
    )


def encode(value: object) -> str:
    """Return compact JSON text.

    Raises:
        ValueError: The value contains NaN or an infinity.
        TypeError: The value contains something without a JSON form.
    """
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    # A refusal returns the ref of the request. It may contain a lone surrogate, which can only be sent escaped.
    return json.dumps(value, separators=(",", ":"), allow_nan=False) if _has_surrogate(text) else text


def encode_payload(action: str, pk: str, data: str, model: str) -> str:
    """Join the payload of a change; ``pk`` and ``data`` are JSON text already."""
    return f'{{"action":"{action}","pk":{pk},"data":{data},"model":{encode(model)}}}'


def encode_plain(stream: str, payload: str) -> str:
    """Join the plain form of a frame, for clients that the server subscribed."""
    return f'{{"stream":"{stream}","payload":{payload}}}'


def encode_tagged(stream: str, group: str, offset: int, payload: str) -> str:
    """Join the tagged form of a frame, for explicit subscribers. Stream and group are plain ASCII by their rules."""
    return f'{{"stream":"{stream}","group":"{group}","offset":{offset},"payload":{payload}}}'


def encode_batch(texts: Sequence[str]) -> str:
    """Join frames into one: a JSON array, for clients that negotiated ``BATCH_PROTOCOL``."""
    return f"[{','.join(texts)}]"


def encode_reply(stream: str, ref: object, result: Mapping[str, object]) -> str:
    """Return the reply to a request that was carried out."""
    return encode({"stream": stream, "payload": {"action": "reply", "ref": ref, "ok": True, **result}})


def encode_refusal(stream: str, ref: object, error: ClientError) -> str:
    """Return the reply to a refused request: ``code``, ``message``, ``fields`` (name -> list of texts)."""
    detail = {
        "code": error.code,
        "message": error.message,
        "fields": {name: list(texts) for name, texts in (error.fields or {}).items()},
    }
    return encode({"stream": stream, "payload": {"action": "reply", "ref": ref, "ok": False, "error": detail}})


def encode_snapshot(
    stream: str, group: str, offset: int, model: str, objects: Sequence[tuple[str, str]], final: bool
) -> str:
    """Return one page of current rows; ``objects`` are (pk, data), both JSON text."""
    rows = ",".join(f'{{"pk":{pk},"data":{data}}}' for pk, data in objects)
    last = "true" if final else "false"
    payload = f'{{"action":"snapshot","model":{encode(model)},"objects":[{rows}],"final":{last}}}'
    return encode_tagged(stream, group, offset, payload)


def encode_resync(stream: str, group: str, offset: int, reason: str) -> str:
    """Return the notice that the data of the client may be stale."""
    return encode_tagged(stream, group, offset, encode_resync_payload(reason))


def encode_resync_payload(reason: str) -> str:
    """Return the payload of that notice."""
    return encode({"action": RESYNC, "reason": reason})


def encode_closed(stream: str, group: str, offset: int, reason: str) -> str:
    """Return the notice that a subscription is over."""
    return encode_tagged(stream, group, offset, encode({"action": "closed", "reason": reason}))


def encode_moving() -> str:
    """Return the notice that the process is ending and that the socket will soon be closed with 1012.

    It has the tagged form of all notices. No subscription has its stream and group, so a client that does not know the
    notice ignores it.
    """
    return encode_tagged("", "", 0, encode({"action": "moving"}))


def encode_expiring(seconds: int) -> str:
    """Return the notice that the token of the connection ends in ``seconds``. It has the form of ``moving``."""
    return encode_tagged("", "", 0, encode({"action": "expiring", "seconds": seconds}))


def describe(value: object) -> str:
    """Return the kind of a JSON value, for an error text that does not repeat megabytes."""
    return type_name.get(type(value)) or f"{value!r:.40}"


def _describe_key(payload: Mapping[str, object], key: str) -> str:
    return describe(payload[key]) if key in payload else "none"


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) != len(pairs):
        # Counted in one pass: comparing ten thousand names with each other would delay the frames of other clients.
        counts = Counter(name for name, _ in pairs)
        twice = next(name for name, count in counts.items() if count > 1)
        raise ValueError(f"the key {twice!r:.60} stands twice in one object")
    return result


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


class _Numbers:
    """The number hooks of ``json.loads`` for a text that may contain a number that is too long.

    Python takes quadratic time for the digits of an integer and refuses more than 4300. ``MISSING`` replaces a number
    that is too long, so the rest of the frame can be read and the reply has its ``ref``.
    """

    def __init__(self, max_digits: int) -> None:
        self._max_digits = max_digits
        self.problem = ""

    def parse_int(self, text: str) -> object:
        return int(text) if self._is_short(text) else MISSING

    def parse_float(self, text: str) -> object:
        return _finite(text) if self._is_short(text) else MISSING

    def _is_short(self, text: str) -> bool:
        length = len(text.lstrip("-"))
        if length > self._max_digits:
            self.problem = f"Expected numbers of at most {self._max_digits} digits, got {text[:20]}... with {length}."
        return length <= self._max_digits


@functools.lru_cache(maxsize=8)
def _long_run(digits: int) -> re.Pattern[str]:
    # A match begins only where no digit precedes, so each position is checked once and the search is linear.
    return re.compile(rf"(?<![0-9])[0-9]{{{digits}}}")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text:.40} is too large a number")
    return value


def _ref(payload: object) -> object:
    if not isinstance(payload, dict) or "ref" not in payload:
        return MISSING
    ref = payload["ref"]
    return MISSING if isinstance(ref, dict | list) else ref


def _deeper_than(value: object, limit: int) -> bool:
    # Not recursive, because the client chooses the depth.
    level = [value]
    for _ in range(limit):
        level = [
            child
            for item in level
            if isinstance(item, dict | list)
            for child in (item.values() if isinstance(item, dict) else item)
        ]
    return any(isinstance(item, dict | list) for item in level)


def _has_surrogate(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False

"""Frames that a client might send: valid, nearly valid and arbitrary ones, all from one seed."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

STREAMS = ("board", "notice", "letter", "user", "inward", "tick")
ACTIONS = ("create", "update", "delete", "subscribe", "unsubscribe", "authenticate", "reply", "resync", "moving", "")
FIELDS = (
    "flag", "count", "big", "ratio", "price", "text", "note", "day", "moment", "span", "code", "address", "info",
    "parent", "friends", "shown", "hidden", "owner", "owner_id", "number", "id", "pk", "password", "is_superuser",
    "text__in", "parent__text", "__class__", "_state", "objects", "save", "\u00fcml\u00e4ut", "\u0000", "constructor",
)  # fmt: skip
KEYS = (
    "action", "pk", "data", "params", "ref", "snapshot", "since", "if", "key", "query", "filter", "sort", "limit",
    "totals", "after", "token", "stream", "payload", "group", "offset", "epoch", "resume", "model",
)  # fmt: skip
TEXTS = (
    "", " ", "a", "t1", "t2", "true", "null", "0", "-1", "1e3", "NaN", "Infinity", "1E+999999999", "0E-999999", "٣",
    "\u0000",
    "a\u0000b", "\ud800", "\udfff\ud800", "\ufeff", "\u202e", "\U0001f600" * 3, "ß" * 41, "x" * 300, "{}", "%s%n",
    "' OR 1=1 --",
    "../../etc/passwd", "<script>", "{0.__class__}", "{text}", "*", "text-*", "2026-02-30", "2026-01-01",
    "9999-12-31T23:59:59Z",
    "0001-01-01T00:00:00+23:59", "P999999999D", "1 00:00:01", "::1", "1.2.3.4", "::ffff:1.2.3.4.5",
    "12345678123456781234567812345678",
)  # fmt: skip
NUMBERS = (
    0, 1, -1, 2, 7, 31, 2**31, -(2**31) - 1, 2**53, 2**63 - 1, 2**63, -(2**63) - 1, 10**30, 10**400, 0.1, -0.0, 1.5,
    1e300, 1e-320,
)  # fmt: skip
#: Written literally, because ``json.dumps`` would not write them.
RAW = (
    "", " ", "{", "}", "[]", "null", "NaN", '"', "\\", "{}{}", '{"stream":"board"}',
    '{"stream":"board","payload":[]}', "\x00",
    '{"stream":"board","payload":{"action":"delete","pk":1,"pk":2,"ref":1}}', '{"stream":NaN,"payload":{}}', "1" * 5000,
    '{"stream":"board","payload":{"action":"create","data":{"count":' + "9" * 4400 + '},"ref":1}}',
    '{"stream":"board","payload":{"action":"create","data":{"ratio":1e999},"ref":1}}',
    '{"stream":"board","payload":{"ref":1e5}}',
    "[" * 3000, '{"a":' * 3000, "[" * 3000 + "]" * 3000,
    '{"stream":"board","payload":{"data":' + "[" * 40 + "]" * 40 + ',"ref":1}}',
)  # fmt: skip
#: Replaced on sending by values that the server has sent to one of the sockets.
RESUME, EPOCH, OFFSET = "@resume@", "@epoch@", "@offset@"


@dataclass(frozen=True)
class Frame:
    """One message: a text or bytes; ``parts`` is the number of fragments in which it is sent."""

    data: str | bytes
    parts: int = 1

    def fill(self, known: dict[str, Any], chance: random.Random) -> Frame:
        """Return the frame with its placeholders replaced by values from the server."""
        data = self.data
        if not known or not isinstance(data, str) or "@" not in data:
            return self
        reply = known[chance.choice(sorted(known))]
        data = data.replace(RESUME, reply["resume"]).replace(EPOCH, reply["epoch"])
        return Frame(data.replace(f'"{OFFSET}"', str(reply["offset"])), self.parts)


class Generator:
    """An endless source of frames; the same seed gives the same frames."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)

    def next(self) -> Frame:
        """Return the next frame."""
        chance = self._chance
        kind = chance.random()
        if kind < 0.06:
            return Frame(chance.choice(RAW))
        if kind < 0.09:
            return Frame(chance.randbytes(chance.choice((0, 1, 2, 100, 5000))))
        envelope: Any = {"stream": self._stream(), "payload": self.payload()}
        if kind < 0.30:
            self._mutate(envelope)
        text = json.dumps(envelope, ensure_ascii=chance.random() < 0.5)
        if kind < 0.36:
            text = self._scratch(text)
        # Characters that no text frame can carry are sent as an escape, which JSON allows.
        text = "".join(f"\\u{ord(each):04x}" if "\ud800" <= each <= "\udfff" else each for each in text)
        if kind > 0.995:
            text = text.replace("}", " " * chance.choice((100, 60_000, 66_000)) + "}", 1)
        return Frame(text, chance.choice((1, 1, 1, 1, 1, 1, 2, 7)) if len(text) > 20 else 1)

    def _stream(self) -> str:
        chance = self._chance
        return chance.choices(STREAMS, (6, 1, 2, 1, 1, 1))[0] if chance.random() < 0.95 else chance.choice(TEXTS)

    def payload(self) -> dict[str, Any]:
        """Return a payload with the right form and any values."""
        chance = self._chance
        action = chance.choices(ACTIONS, (5, 8, 2, 5, 3, 1, 0.2, 0.2, 0.2, 0.2))[0]
        payload: dict[str, object] = {"action": action}
        if chance.random() < 0.7:
            payload["ref"] = chance.choice((1, "a", None, True, 1.5, chance.choice(TEXTS), chance.choice(NUMBERS)))
        if action in ("update", "delete"):
            payload["pk"] = self._pk()
        if action in ("create", "update"):
            payload["data"] = self._data()
            if chance.random() < 0.15:
                payload["key"] = chance.choice(("k1", "k2", "x" * 200, "x" * 201, "", chance.choice(TEXTS)))
        if action in ("update", "delete") and chance.random() < 0.2:
            payload["if"] = self._data()
        if action in ("subscribe", "unsubscribe"):
            payload["params"] = self._params()
        if action == "subscribe":
            self._subscribe(payload)
        if action == "authenticate":
            payload["token"] = chance.choice(TEXTS)
        return payload

    def _subscribe(self, payload: dict[str, object]) -> None:
        chance = self._chance
        if chance.random() < 0.3:
            payload["snapshot"] = True
        elif chance.random() < 0.6:
            since: dict[str, object] = {"epoch": EPOCH, "offset": OFFSET, "resume": RESUME}
            if chance.random() < 0.5:
                forged = chance.choice(sorted(since))
                since[forged] = chance.choice((chance.choice(TEXTS), chance.choice(NUMBERS), None, [], RESUME + "x"))
            payload["since"] = since
        if chance.random() < 0.1:
            payload["query"] = chance.choice(("q1", "", "x" * 65, "\u00e4"))
            payload["filter"] = chance.choice(({"count__gt": 1}, {"or": []}, {"not": {"not": {}}}, self._data()))
            payload["sort"], payload["limit"] = ["-count", "text"], chance.choice(NUMBERS)
            payload["totals"] = chance.choice((["count"], [], "count"))

    def _pk(self) -> object:
        chance = self._chance
        return chance.randint(1, 80) if chance.random() < 0.8 else self._scalar()

    def _params(self) -> dict[str, Any]:
        chance = self._chance
        return chance.choices(
            ({}, {"text": f"t{chance.randint(0, 6)}"}, {"owner_id": chance.randint(1, 4)}, self._data()), (5, 3, 2, 2)
        )[0]

    def _data(self) -> dict[str, object]:
        chance = self._chance
        good: dict[str, Callable[[], object]] = {
            "flag": lambda: chance.random() < 0.5,
            "count": lambda: chance.randint(-5, 5),
            "text": lambda: f"t{chance.randint(0, 6)}",
            "price": lambda: "12.50",
            "day": lambda: "2026-01-01",
            "info": lambda: {"a": [1, {"b": None}]},
            "parent": lambda: chance.randint(1, 40),
            "friends": lambda: [chance.randint(1, 40) for _ in range(3)],
        }
        data = {name: good[name]() for name in chance.sample(sorted(good), chance.randint(0, 3))}
        while chance.random() < 0.35:
            data[chance.choice(FIELDS)] = self._value(3)
        return data

    def _scalar(self) -> object:
        chance = self._chance
        return chance.choice((None, True, False, chance.choice(NUMBERS), chance.choice(TEXTS)))

    def _value(self, depth: int) -> Any:
        chance = self._chance
        if depth and chance.random() < 0.3:
            if chance.random() < 0.5:
                return [self._value(depth - 1) for _ in range(chance.randint(0, 4))]
            return {chance.choice(FIELDS + KEYS): self._value(depth - 1) for _ in range(chance.randint(0, 3))}
        return self._scalar()

    def _mutate(self, envelope: dict[str, Any]) -> None:
        """Change one key anywhere: remove it, change its type, or add one."""
        chance = self._chance
        place = chance.choice((envelope, envelope["payload"], envelope["payload"]))
        nested = [value for value in place.values() if isinstance(value, dict)]
        if nested and chance.random() < 0.3:
            place = chance.choice(nested)
        way = chance.random()
        if place and way < 0.3:
            del place[chance.choice(sorted(place))]
        elif place and way < 0.7:
            place[chance.choice(sorted(place))] = self._value(2)
        else:
            place[chance.choice(KEYS + FIELDS)] = self._value(2)

    def _scratch(self, text: str) -> str:
        """Cut, double or change some characters."""
        chance = self._chance
        start = chance.randrange(len(text))
        stop = min(len(text), start + chance.randint(1, 5))
        return text[:start] + chance.choice(("", text[start:stop] * 2, chance.choice('"{}[],:\\x\x01'))) + text[stop:]

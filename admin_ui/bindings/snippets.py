"""Examples for developers: how to subscribe to a binding, as a script, as frames and as a test."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.db.models import Model
from django.templatetags.static import static
from django.urls import get_script_prefix

from admin_ui.bindings.example_user import build_user
from declbind.core.spec import BindingSpec
from declbind.fields import concrete_field, find_model, writable_fields

#: Example values of columns, by the type of the column.
_EXAMPLES = (
    ("Boolean", True),
    ("Integer", 1),
    ("AutoField", 1),
    ("Float", 1.5),
    ("Decimal", "1.50"),
    ("DateTime", "2030-01-31T12:00:00Z"),
    ("Date", "2030-01-31"),
    ("UUID", "00000000-0000-4000-8000-000000000000"),
)


@dataclass(frozen=True)
class Way:
    """A way to subscribe to the groups of one template: its params, and the frame."""

    template: str
    params: str
    frame: str


@dataclass(frozen=True)
class Snippets:
    """The examples for one binding; a text is empty if there is nothing to show."""

    ways: tuple[Way, ...]
    script: str
    test: str


def build_snippets(spec: BindingSpec) -> Snippets | None:
    """Return the examples, or None for a binding whose model is not installed."""
    model = find_model(spec.model)
    if model is None:
        return None
    # The server fills in the params of ``scope`` itself, and refuses others.
    ways = [
        (template.text, {name: example_value(model, name) for name in template.placeholders if name not in spec.scope})
        for template in (spec.group_templates if spec.outbound else ())
    ]
    return Snippets(
        ways=tuple(Way(text, _line(params), _line(_frame(spec.stream, params))) for text, params in ways),
        script=_script(spec, model, [params for _, params in ways]),
        test=_test(spec, model, [params for _, params in ways]),
    )


def example_value(model: type[Model], name: str) -> object:
    """Return a value of a column as a client would send it; for a relation, the key that it holds."""
    try:
        column: Any = concrete_field(model, name)
    except LookupError:
        return "value"
    column = getattr(column, "target_field", column)
    kind = type(column).__name__
    return next((value for part, value in _EXAMPLES if part in kind), "value")


def _frame(stream: str, params: Mapping[str, object]) -> dict[str, object]:
    payload = {"action": "subscribe", "params": params, "snapshot": True, "ref": 1}
    return {"stream": stream, "payload": payload}


def _script(spec: BindingSpec, model: type[Model], ways: list[dict[str, object]]) -> str:
    lines = [
        f"import {{ connect }} from '{static('declbind/declbind.js')}';",
        "",
        f"const client = connect({_socket_address()});",
        f"const stream = client.stream({json.dumps(spec.stream)});",
    ]
    lines += [f"stream.subscribe({_line(params)}, {{ onRows: ({{ rows }}) => console.log(rows) }});" for params in ways]
    data = _example_data(spec, model)
    if data:
        lines.append(f"await stream.create({_line(data)});")
    return "\n".join(lines) + "\n"


def _socket_address() -> str:
    """Return the argument of ``connect()``: none, unless the site is served below a path."""
    prefix = get_script_prefix()
    return "" if prefix == "/" else json.dumps(f"{prefix}ws/bindings/")


def _test(spec: BindingSpec, model: type[Model], ways: list[dict[str, object]]) -> str:
    name = re.sub(r"\W", "_", spec.stream)
    user = build_user()
    stream = json.dumps(spec.stream)
    lines = [
        *user.imports,
        "import pytest",
        "from declbind.testing import Client, override_bindings",
        *user.model_imports,
        "",
        f"BINDING = {_python(spec.to_dict())}",
        "",
        "",
        "@pytest.mark.django_db(transaction=True)",
        f"async def test_{name}(django_user_model):",
        *(f"    {line}" for line in user.lines),
        "    with override_bindings(BINDING):",
        "        async with Client(user=user) as client:",
    ]
    if ways:
        lines += [
            f'            reply = await client.request({stream}, "subscribe", params={_python(ways[0])})',
            f'            assert reply["ok"] is {spec.permissions.get("view") is True}',
        ]
    else:
        may_create = spec.permissions.get("create") is True
        lines += [
            f'            reply = await client.request({stream}, "create", data={_python(_example_data(spec, model))})',
            # Example values need not be valid: a foreign key may refer to no row.
            '            code = None if reply["ok"] else reply["error"]["code"]',
            f'            assert code {"!=" if may_create else "=="} "denied"',
        ]
    return "\n".join(lines) + "\n"


def _example_data(spec: BindingSpec, model: type[Model]) -> dict[str, object]:
    if not spec.inbound or spec.permissions.get("create") is False:
        return {}
    return {field.name: example_value(model, field.name) for field in writable_fields(model, spec)[:3]}


def _line(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _python(value: object) -> str:
    return repr(value).replace("'", '"') if "'" not in _line(value) and '"' not in repr(value) else repr(value)

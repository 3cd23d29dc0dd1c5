"""Ways to store rows from fixtures."""

from __future__ import annotations

import json
from typing import Any

from django.core import serializers

from tests.matrix.sample import Sample

from .way import has_one_table, way


def load(documents: list[dict[str, object]]) -> None:
    """Store rows as ``loaddata`` does."""
    for loaded in serializers.deserialize("json", json.dumps(documents)):
        loaded.save()


def dump(sample: Sample, letter: str) -> list[dict[str, Any]]:
    """Return the fixture of a row, that of its parents first."""
    row = sample.row(letter)
    model = sample.model._meta.concrete_model
    parents = sorted(model._meta.get_parent_list(), key=lambda parent: len(parent._meta.get_parent_list()))
    rows = [parent._base_manager.get(pk=getattr(row, parent._meta.pk.attname)) for parent in parents]
    documents: list[dict[str, Any]] = json.loads(serializers.serialize("json", [*rows, row]))
    return documents


@way(is_one_call=False)
def fixture_of_a_known_row(sample):
    documents = dump(sample, "a")
    for document in documents:
        fields = document["fields"]
        fields |= {name: value for name, value in sample.changes.items() if name in fields}
    load(documents)
    return [sample.row("a")]


@way(has_one_table, least=10, is_one_call=False)
def fixture_of_a_new_row(sample):
    [document] = dump(sample, "a")
    values = sample.new_values(sample.new_name())
    document["fields"] |= {name: value for name, value in values.items() if name in document["fields"]}
    made = {"text key": values.get("code"), "one to one": getattr(values.get("holder"), "pk", None)}
    document["pk"] = made.get(sample.kind.name) or ("5" * 32 if sample.kind.name == "uuid" else 5_000 + sample.shift)
    load([document])

"""Which fields ``"__all__"`` and ``exclude`` of files and classes may send: those that their models had at first.

A record of the database keeps this itself (``BindingRecord.known``). What files and classes say lies outside of the
database, so what they meant is kept in a table, by stream and by what the definition says of its fields. It is stored
when a definition is first in force, by :mod:`declbind.growth`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from declbind.core.spec import BindingSpec
from declbind.models import Baseline
from declbind.models.revision import CHOOSING

#: From a stream and the digest of its definition to the names of the fields that it may send.
Baselines = Mapping[tuple[str, str], frozenset[str]]


def definition_digest(spec: BindingSpec) -> str:
    """Return what stands for the keys of a definition that choose its fields. Other edits of it open no field."""
    document: dict[str, Any] = spec.to_dict()
    chosen = {key: document.get(key) for key in CHOOSING}
    return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()


def load_baselines(using: str) -> Baselines:
    """Return what is stored. One query."""
    rows = Baseline.objects.using(using).order_by().values_list("stream", "definition", "names")
    return {(stream, digest): frozenset(names) for stream, digest, names in rows if isinstance(names, list)}


def find_baseline(baselines: Baselines, spec: BindingSpec) -> frozenset[str] | None:
    """Return what a definition may send; ``None`` where that is not limited, or not stored yet."""
    if not spec.is_open or spec.grow or not baselines:
        return None
    return baselines.get((spec.stream, definition_digest(spec)))

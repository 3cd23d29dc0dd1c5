"""The fields that ``"__all__"`` and ``exclude`` of files and classes may send: those that their models had at first.

A database record stores them itself (``BindingRecord.known``). Files and classes are outside the database, so their
fields are stored in a table, by stream and by a digest of the keys that choose fields. :mod:`declbind.growth` stores
them when a definition is first in force.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from django.db import connections

from declbind.configuration_version import has_table, is_migrated
from declbind.core.spec import BindingSpec
from declbind.models import Baseline
from declbind.models.revision import CHOOSING

#: Maps a stream and the digest of its definition to the names of the fields that it may send.
Baselines = Mapping[tuple[str, str], frozenset[str]]

#: The databases in which the table of baselines has been found.
_present: set[str] = set()


def definition_digest(spec: BindingSpec) -> str:
    """Return the digest of the keys that choose the fields of a definition. Edits of other keys add no field."""
    document = spec.to_dict()
    chosen = {key: document.get(key) for key in CHOOSING}
    return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()


def load_baselines(using: str) -> Baselines:
    """Return the stored baselines. Makes one query."""
    rows = Baseline.objects.using(using).order_by().values_list("stream", "definition", "names")
    return {(stream, digest): frozenset(names) for stream, digest, names in rows if isinstance(names, list)}


def stored_baselines(using: str) -> Baselines:
    """Return which fields the definitions in files and classes may send. Makes at most one query.

    Args:
        using: The database of the records.

    Returns:
        The stored baselines; empty before ``migrate``.
    """
    if not is_migrated(using):
        return {}
    if using not in _present:
        if not has_table(connections[using], Baseline._meta.db_table):
            return {}
        _present.add(using)
    return load_baselines(using)


def find_baseline(baselines: Baselines, spec: BindingSpec) -> frozenset[str] | None:
    """Return the fields that a definition may send; ``None`` if they are not limited, or not stored yet."""
    if not spec.is_open or spec.grow or not baselines:
        return None
    return baselines.get((spec.stream, definition_digest(spec)))

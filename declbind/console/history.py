"""The history of a binding, edit by edit, and the return to an earlier version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import Max
from django.utils.translation import gettext

from declbind.core.errors import ConfigError, Problem
from declbind.core.wording import suggest
from declbind.django_types import User
from declbind.models import BindingRecord, BindingRevision, editing

from .documents import Difference, differences, fingerprint, says_same

SHOWN_STEPS = 50


@dataclass(frozen=True)
class Step:
    """One edit of one binding.

    ``before`` and ``after`` are whole records, ``None`` if the record did not exist.
    """

    stream: str
    version: int
    at: datetime
    author: str
    note: str
    source: str
    before: Mapping[str, object] | None
    after: Mapping[str, object] | None

    @property
    def verb(self) -> str:
        """Return "created", "changed" or "removed", for programs."""
        if self.after is None:
            return "removed"
        return "changed" if self.before is not None else "created"

    @property
    def differences(self) -> list[Difference]:
        """Return (key, old, new) for each key that differs."""
        return differences(self.before, self.after)

    def as_json(self) -> dict[str, object]:
        """Return the edit as JSON values."""
        return {
            "stream": self.stream,
            "version": self.version,
            "at": self.at,
            "author": self.author,
            "note": self.note,
            "source": self.source,
            "verb": self.verb,
            "differences": {key: {"old": old, "new": new} for key, old, new in self.differences},
        }


def load_history(stream: str, using: str, limit: int = SHOWN_STEPS) -> list[Step]:
    """Return the newest edits of a stream, newest first. Takes one query.

    Raises:
        ConfigError: The stream was never stored.
    """
    rows = BindingRevision.objects.using(using).filter(stream=stream)[: limit + 1]
    revisions = list(rows)
    if not revisions:
        raise _never_stored(stream, using)
    before = [revision.definition for revision in revisions[1:]] + [None]
    return [_step(revision, old) for revision, old in zip(revisions, before, strict=True)][:limit]


def load_edits_since(version: int, using: str, limit: int = SHOWN_STEPS) -> list[Step]:
    """Return the edits of all streams after a configuration version, newest first. Takes two queries."""
    revisions = BindingRevision.objects.using(using)
    newer = list(revisions.filter(version__gt=version)[:limit])
    if not newer:
        return []
    known = revisions.filter(version__lte=version, stream__in={revision.stream for revision in newer})
    last = known.order_by().values("stream").annotate(last=Max("pk")).values("last")
    now = {revision.stream: revision.definition for revision in revisions.filter(pk__in=last)}
    steps = []
    for revision in reversed(newer):
        steps.append(_step(revision, now.get(revision.stream)))
        now[revision.stream] = revision.definition
    return steps[::-1]


def find_revision(stream: str, version: int, using: str) -> BindingRevision:
    """Return the revision of a stream that made a configuration version.

    Raises:
        ConfigError: No revision of the stream made that version.
    """
    rows = BindingRevision.objects.using(using).filter(stream=stream)
    revision = rows.filter(version=version).first()
    if revision is not None:
        return revision
    versions = list(rows.values_list("version", flat=True)[:10])
    if not versions:
        raise _never_stored(stream, using)
    text = gettext("Expected a version that edited binding %(stream)r, got %(given)s. The last ones were %(versions)s.")
    raise ConfigError(text % {"stream": stream, "given": version, "versions": ", ".join(map(str, versions))})


def roll_back(
    revision: BindingRevision, using: str, author: User | None, note: str, expected_fingerprint: str = ""
) -> BindingRecord | None:
    """Store the record as of ``revision`` again, as a new revision; a removed record is recreated.

    This checks no permission.

    Returns:
        The record, or ``None`` if it is unchanged and nothing was stored.

    Raises:
        ConfigError: The revision removed the record, the old record is no longer valid, or the stored record does not
            have ``expected_fingerprint`` because it was edited in the meantime.
    """
    document = _definition_of(revision)
    with transaction.atomic(using=using):
        record = BindingRecord.objects.using(using).select_for_update().filter(stream=revision.stream).first()
        now = record.definition() if record is not None else None
        if expected_fingerprint and (now is None or fingerprint(now) != expected_fingerprint):
            text = (
                gettext("Another user changed binding %(stream)r in the meantime. Nothing was stored; check it again.")
                if now is not None
                else gettext(
                    "Another user removed binding %(stream)r in the meantime. Nothing was stored; check it again."
                )
            )
            raise ConfigError(text % {"stream": revision.stream})
        if now is not None and says_same(now, document):
            return None
        record = record or BindingRecord()
        if isinstance(revision.known, list):
            record.send_only({*revision.known, *record.sent()})
        record.assign(document)
        try:
            with editing(author, note or f"Back to version {revision.version}."):
                record.save(using=using)
        except ValidationError as error:
            raise ConfigError(as_problems(error)) from error
        except IntegrityError as error:
            if now is None and BindingRecord.objects.using(using).filter(stream=revision.stream).exists():
                text = gettext(
                    "Another user added binding %(stream)r again at the same time. Nothing was stored; check it again."
                )
                raise ConfigError(text % {"stream": revision.stream}) from error
            raise
    return record


def _definition_of(revision: BindingRevision) -> dict[str, object]:
    document: dict[str, object] | None = revision.definition
    if document is None:
        text = gettext(
            "Version %(version)s removed binding %(stream)r, so there is nothing to restore. Choose a version in which "
            "it existed, or delete the binding."
        )
        raise ConfigError(text % {"version": revision.version, "stream": revision.stream})
    return document


def find_held(revision: BindingRevision, record: BindingRecord) -> tuple[list[str], list[str]]:
    """Return the held-back fields that ``roll_back`` finds in a record, and those of them that it sends.

    It sends the fields that existed at the time of the revision. Fields that the record sends now are not held back
    again. ``record`` is unsaved if it was removed.
    """
    if not isinstance(revision.known, list):
        return record.held(), []
    sent = record.sent() if record.pk else []
    back = BindingRecord(known=[]).assign(dict(revision.definition or {}))
    held = [name for name in dict.fromkeys((*back.held(), *record.held())) if name not in sent]
    return held, [name for name in held if name in revision.known]


def as_problems(error: ValidationError) -> Sequence[Problem]:
    """Return the problems of a record from which a validation error was made."""
    problems = []
    for text in error.messages:
        path, colon, message = text.partition(": ")
        is_placed = bool(colon) and path.startswith("$")
        problems.append(Problem(path, message) if is_placed else Problem("$", text))
    return problems


def _step(revision: BindingRevision, before: Mapping[str, object] | None) -> Step:
    return Step(
        stream=revision.stream,
        version=revision.version,
        at=revision.created_at,
        author=revision.author_name,
        note=revision.note,
        source=revision.source,
        before=before,
        after=revision.definition,
    )


def _never_stored(stream: str, using: str) -> ConfigError:
    known = BindingRevision.objects.using(using).order_by().values_list("stream", flat=True).distinct()
    text = gettext("No binding %(stream)r was ever stored in the database.") % {"stream": stream}
    return ConfigError([Problem("$.stream", f"{text}{suggest(stream, sorted(known))}")])

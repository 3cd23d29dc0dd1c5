"""The page that asks for confirmation before bindings are stored, with the meaning of each edit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from django.http import HttpRequest
from django.template.response import TemplateResponse

from admin_ui.common import documents, screen
from admin_ui.common.screen import RecordAdmin
from admin_ui.editor.changes import Change, combine_digests
from declbind.core.errors import Problem


@dataclass(frozen=True)
class Proposal:
    """The change of one stream; with ``problems`` it cannot be stored."""

    stream: str
    change: Change
    problems: Sequence[Problem] = ()
    lines: Sequence[documents.DiffLine] = field(default=())


def digest_of(proposals: Iterable[Proposal]) -> str:
    """Return the value that the page's button must send if something is opened."""
    return combine_digests(proposal.change for proposal in proposals)


def confirm_page(
    model_admin: RecordAdmin,
    request: HttpRequest,
    title: str,
    proposals: Sequence[Proposal],
    *,
    button: str,
    hidden: Mapping[str, str | Sequence[str]],
    back: str,
    intro: str = "",
    asked: bool = False,
) -> TemplateResponse:
    """Show proposals with a button that sends the ``hidden`` values to the same address.

    If something is opened, the button itself is the confirmation. ``asked`` says that the page was submitted without
    it.
    """
    values = [
        (name, value)
        for name, given in hidden.items()
        for value in ([given] if isinstance(given, str) else given)
    ]  # fmt: skip
    return screen.render_page(
        model_admin,
        request,
        "confirm.html",
        title,
        proposals=proposals,
        digest=digest_of(proposals),
        is_possible=not any(proposal.problems for proposal in proposals),
        hidden=values,
        button=button,
        back=back,
        intro=intro,
        asked=asked,
    )

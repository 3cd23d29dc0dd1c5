"""The texts of the scripts. A page carries their translations, so that no script needs an address for them."""

from __future__ import annotations

from typing import Final

from django.utils.translation import gettext, gettext_noop

#: Every text that a script shows, as it is written there. Values stand in braces.
TEXTS: Final = (
    gettext_noop(", {count} waiting"),
    gettext_noop("Accepted"),
    gettext_noop("Add"),
    gettext_noop("Add a condition"),
    gettext_noop("As JSON"),
    gettext_noop("As text"),
    gettext_noop("Choose a field"),
    gettext_noop("Choose a relation"),
    gettext_noop("Click a column of {model} to put it into a template"),
    gettext_noop("Click a relation of {model}"),
    gettext_noop("Comparison"),
    gettext_noop("Copied"),
    gettext_noop("Ended: you may no longer watch. Log in again."),
    gettext_noop("Exposed knowingly"),
    gettext_noop("Field"),
    gettext_noop("Field of the related row"),
    gettext_noop("Field of the user"),
    gettext_noop("Filter"),
    gettext_noop("Filter: {title}"),
    gettext_noop("Insert it into the template at the cursor"),
    gettext_noop("Jump to now"),
    gettext_noop("Left out"),
    gettext_noop("Limit users to their own rows"),
    gettext_noop("Live"),
    gettext_noop("Live, gap"),
    gettext_noop("Load them page by page"),
    gettext_noop("Move to: {list}"),
    gettext_noop("Never sent"),
    gettext_noop("Not accepted"),
    gettext_noop("Not sent"),
    gettext_noop("One group for each"),
    gettext_noop("Pause"),
    gettext_noop("Paused"),
    gettext_noop("Paused, gap"),
    gettext_noop("Polling"),
    gettext_noop("Polling, gap"),
    gettext_noop("Reconnecting"),
    gettext_noop("Reconnecting, gap"),
    gettext_noop("Relation"),
    gettext_noop("Remove"),
    gettext_noop("Resume"),
    gettext_noop("Rows"),
    gettext_noop("Rows that are not shown: {count}."),
    gettext_noop("Say which rows clients may link to"),
    gettext_noop("Sent"),
    gettext_noop("Showing 1 in {every}, refusals, errors and marks always."),
    gettext_noop("This change gives more access than before."),
    gettext_noop("Value"),
    gettext_noop("Whose"),
    gettext_noop("a field of the user:"),
    gettext_noop("any row"),
    gettext_noop("false"),
    gettext_noop("is"),
    gettext_noop("is empty"),
    gettext_noop("is one of"),
    gettext_noop("not in the model"),
    gettext_noop("not sent"),
    gettext_noop("only rows of the user, by their field:"),
    gettext_noop("open, answered"),
    gettext_noop("primary key"),
    gettext_noop("the user"),
    gettext_noop("true"),
    gettext_noop("value"),
    gettext_noop("{count} more like it"),
    gettext_noop("{name} is number {number} of {total}."),
    gettext_noop("{name}: {list}. {count} in {chosen}."),
    gettext_noop("{number} ms"),
)


def translate_texts() -> dict[str, str]:
    """Return the texts that the current language has a translation of, by the English text."""
    found = {text: gettext(text) for text in TEXTS}
    return {text: translated for text, translated in found.items() if translated != text}

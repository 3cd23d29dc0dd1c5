"""Form fields and widgets for structured keys of a record. Each is lossless for every valid record."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from admin_ui.common import documents
from admin_ui.common.screen import Context
from declbind.core.errors import ConfigError
from declbind.core.spec import ACTIONS, ALL_FIELDS, AUDIENCES, AUTHENTICATED, STAFF
from declbind.fields import find_model

#: The texts of the select for an action's permission.
DEFAULT, EVERYONE, NOBODY, HOLDERS = "default", "everyone", "nobody", "holders"


def as_lines(value: object) -> str:
    """Return a list as text, one item a line; any other value (of an invalid record) as JSON."""
    if value is None:
        return ""
    if isinstance(value, list):
        return "\n".join(item if isinstance(item, str) else json.dumps(item) for item in value)
    return value if isinstance(value, str) else json.dumps(value)


def from_lines(text: str | None) -> list[str]:
    """Return the names in a text, one a line. Blank lines and surrounding blanks are ignored: no valid name has any."""
    return [line.strip() for line in (text or "").splitlines() if line.strip()]


def describe_key(label: str) -> str:
    """Return the name of a model's primary key, which a record may list as sensitive; "" without the model."""
    model = find_model(label)
    return str(model._meta.pk.name) if model is not None else ""


class ListWidget(forms.Textarea):
    """A list of names, one a line. ``picks`` tells the script which of the model's fields to offer."""

    def __init__(self, rows: int = 4, picks: str = "") -> None:
        marks = {"data-picks": picks} if picks else {}
        super().__init__(
            {"rows": rows, "class": "declbind-lines", "spellcheck": "false", "autocapitalize": "none", **marks}
        )

    def format_value(self, value: object) -> str:
        """Return the lines."""
        return as_lines(value)


class ChangeByContent:
    """A mixin that compares a field's submitted content with its initial one as JSON documents."""

    def has_changed(self, initial: object, data: object) -> bool:
        """Return whether the content differs; input that cannot be parsed counts as a change."""
        if self.disabled:  # type: ignore[attr-defined]
            return False
        try:
            return documents.canonical(self.clean(data)) != documents.canonical(initial)  # type: ignore[attr-defined]
        except (ValidationError, TypeError, ValueError):
            return True


class ListField(ChangeByContent, forms.Field):
    """A list of names from a text area."""

    def __init__(self, *, rows: int = 4, picks: str = "", label: str | None = None, help_text: str = "") -> None:
        super().__init__(widget=ListWidget(rows, picks), required=False, label=label, help_text=help_text)

    def clean(self, value: object) -> list[str]:
        """Return the names."""
        return value if isinstance(value, list) else from_lines(value if isinstance(value, str) else None)


class ObjectWidget(forms.Textarea):
    """A JSON object in a text area; an empty one is shown as an empty text.

    ``builds`` names what the object holds, for the script that builds it from choices.
    """

    def __init__(self, builds: str = "") -> None:
        marks = {"data-builds": builds} if builds else {}
        super().__init__(
            {"rows": 3, "class": "declbind-json", "spellcheck": "false", "autocapitalize": "none", **marks}
        )

    def format_value(self, value: object) -> str:
        """Return the JSON text; submitted text is returned unchanged."""
        if isinstance(value, str):
            return value
        return documents.dump(value) if value else ""


class ObjectField(ChangeByContent, forms.Field):
    """A JSON object from a text area."""

    def __init__(self, *, builds: str = "", label: str | None = None, help_text: str = "") -> None:
        super().__init__(widget=ObjectWidget(builds), required=False, label=label, help_text=help_text)

    def clean(self, value: object) -> documents.Document:
        """Return the object.

        Raises:
            ValidationError: The text is not a JSON object; the message gives line and column.
        """
        if isinstance(value, dict):
            return value
        try:
            return documents.parse_object(value if isinstance(value, str) else "", "this field")
        except ConfigError as error:
            raise ValidationError([problem.message for problem in error.problems]) from error


class CompoundWidget(forms.MultiWidget):
    """Several inputs shown as one. The form sets ``group_label``, their name for screen readers."""

    use_fieldset = False  # the admin would repeat the label as a legend; the templates have a group of their own
    group_label: str = ""

    def get_context(self, name: str, value: object, attrs: Context | None) -> Context:
        """Add the label of the group, and give the inputs their names as ids, where Django would use numbers."""
        context: Context = super().get_context(name, value, attrs)
        for single in context["widget"]["subwidgets"]:
            single["attrs"]["id"] = f"id_{single['name']}"
        context["widget"]["group_label"] = self.group_label
        return context


class ChoiceAndNames(CompoundWidget):
    """A choice, and a list of names for those choices that need one."""

    template_name = "declbind_admin/widgets/choice_and_names.html"

    def __init__(self, choices: Sequence[tuple[str, str]], picks: str) -> None:
        super().__init__({"mode": forms.RadioSelect(choices=list(choices)), "names": ListWidget(picks=picks)})


class SentWidget(ChoiceAndNames):
    """The widget of ``fields`` and ``exclude``, of which a record has one."""

    def decompress(self, value: object) -> list[object]:
        """Return the choice and the names of ``{"fields": ...}`` or ``{"exclude": ...}``."""
        given = value if isinstance(value, Mapping) else {}
        if given.get("exclude") is not None:
            return ["but", given["exclude"]]
        names = given.get("fields")
        if names in (ALL_FIELDS, [ALL_FIELDS]):
            return ["all", []]
        return ["none", []] if names == [] else ["these", names]


class SentField(ChangeByContent, forms.Field):
    """The choice of sent fields. The value is the part of the record with the one key that states it."""

    def __init__(self, *, label: str | None = None, help_text: str = "") -> None:
        choices = [
            ("these", "These fields:"),
            ("but", "All fields but these:"),
            ("all", "All fields"),
            ("none", "No fields: only the key of each changed row"),
        ]
        super().__init__(widget=SentWidget(choices, "sent"), required=False, label=label, help_text=help_text)

    def clean(self, value: object) -> dict[str, object]:
        """Return ``{"fields": ...}`` or ``{"exclude": ...}``."""
        mode, text = _pair(value)
        names = from_lines(text)
        if mode == "all":
            return {"fields": ALL_FIELDS}
        if mode == "none":
            return {"fields": []}
        if mode == "but":
            return {"exclude": names}
        if mode == "these" and names:
            return {"fields": names}
        raise ValidationError("Choose which fields to send.")


class WritableWidget(ChoiceAndNames):
    """The widget of ``writable``."""

    def decompress(self, value: object) -> list[object]:
        """Return the choice and the names of ``{"writable": ...}``."""
        names = value.get("writable") if isinstance(value, Mapping) else None
        if names is None:
            return ["editable", []]
        return ["nothing", []] if names == [] else ["these", names]


class WritableField(ChangeByContent, forms.Field):
    """The choice of writable fields. The value is the part of the record that states it.

    It is not the list itself, which a ``MultiWidget`` would take for the values of its inputs.
    """

    def __init__(self, *, label: str | None = None, help_text: str = "") -> None:
        choices = [
            ("editable", "The sent fields that are editable"),
            ("these", "Only these:"),
            ("nothing", "Nothing"),
        ]
        super().__init__(widget=WritableWidget(choices, "editable"), required=False, label=label, help_text=help_text)

    def clean(self, value: object) -> dict[str, list[str] | None]:
        """Return ``{"writable": ...}``, None for the editable ones of the sent fields."""
        mode, text = _pair(value)
        names = from_lines(text)
        if mode == "editable":
            return {"writable": None}
        if mode == "nothing":
            return {"writable": []}
        if mode == "these" and names:
            return {"writable": names}
        raise ValidationError("List the fields that clients may write, one per line, or make another choice above.")


#: What each action means to an operator, and the word for it in the names of Django's own permissions.
DEEDS: Mapping[str, tuple[str, str]] = {
    "view": ("see the rows", "Can view"),
    "create": ("add rows", "Can add"),
    "update": ("change rows", "Can change"),
    "delete": ("delete rows", "Can delete"),
}
VIEWING, WRITING = ("view",), ("create", "update", "delete")


class PermissionsWidget(CompoundWidget):
    """The permission of each of some actions: a choice and a codename.

    The inputs are named for the record's key, so that the actions may be spread over several fields of the form.
    """

    template_name = "declbind_admin/widgets/permissions.html"
    key = "permissions"
    codenames: Sequence[str] = ()

    def __init__(self, actions: Sequence[str] = ACTIONS) -> None:
        self.actions = tuple(actions)
        widgets: dict[str, forms.Widget | type[forms.Widget]] = {}
        for action in self.actions:
            choices = [
                (DEFAULT, f"users with the '{DEEDS[action][1]}' permission"),
                (EVERYONE, "everyone, even without a login"),
                (AUTHENTICATED, "every user who is logged in"),
                (STAFF, "every staff user"),
                (NOBODY, "nobody"),
                (HOLDERS, "users with this permission:"),
            ]
            widgets[action] = forms.Select(choices=choices)
            widgets[f"{action}_codename"] = forms.TextInput(
                {"class": "vTextField", "placeholder": "app_label.codename", "spellcheck": "false"}
            )
        super().__init__(widgets)

    def decompress(self, value: object) -> list[object]:
        """Return choice and codename for each action."""
        given = dict.fromkeys(self.actions, value) if isinstance(value, str) else value
        found: list[object] = []
        for action in self.actions:
            rule = given.get(action) if isinstance(given, Mapping) else None
            if isinstance(rule, bool):
                found += [EVERYONE if rule else NOBODY, ""]
            elif rule in AUDIENCES:
                found += [rule, ""]
            else:
                found += [DEFAULT, ""] if rule is None else [HOLDERS, rule]
        return found

    def value_from_datadict(self, data: Mapping[str, object], files: Mapping[str, object], name: str) -> list[Any]:
        """Read the inputs."""
        return super().value_from_datadict(data, files, self.key)  # type: ignore[arg-type]  # any mapping

    def value_omitted_from_data(self, data: Mapping[str, object], files: Mapping[str, object], name: str) -> bool:
        """Return whether the inputs are missing."""
        return super().value_omitted_from_data(data, files, self.key)  # type: ignore[arg-type]  # any mapping

    def get_context(self, name: str, value: object, attrs: Context | None) -> Context:
        """Group the inputs by action, and add the codenames to choose from."""
        context = super().get_context(self.key, value, attrs)
        widget = context["widget"]
        inputs = widget["subwidgets"]
        for position, action in enumerate(self.actions):
            inputs[2 * position]["attrs"]["aria-label"] = f"Who may {DEEDS[action][0]}"
            inputs[2 * position + 1]["attrs"]["aria-label"] = f"Permission to {DEEDS[action][0]}"
            inputs[2 * position + 1]["attrs"]["list"] = f"{name}_known"
        rows = [(DEEDS[action][0], *inputs[2 * at : 2 * at + 2]) for at, action in enumerate(self.actions)]
        widget.update(rows=rows, known=f"{name}_known", codenames=self.codenames)
        return context


class PermissionsField(ChangeByContent, forms.Field):
    """The permission of each of some actions; an action with the model's own permission is left out."""

    def __init__(self, actions: Sequence[str] = ACTIONS, *, label: str | None = None, help_text: str = "") -> None:
        self.actions = tuple(actions)
        super().__init__(widget=PermissionsWidget(actions), required=False, label=label, help_text=help_text)

    def has_changed(self, initial: object, data: object) -> bool:
        """Compare the rules of these actions."""
        given = dict.fromkeys(self.actions, initial) if isinstance(initial, str) else initial
        known = {key: given[key] for key in self.actions if key in given} if isinstance(given, Mapping) else given
        return super().has_changed(known, data)

    def clean(self, value: object) -> dict[str, str | bool]:
        """Return the rules by action.

        Raises:
            ValidationError: A choice and its codename do not match.
        """
        given = [*(value if isinstance(value, Sequence) else ()), *[None] * (2 * len(self.actions))]
        rules: dict[str, str | bool] = {}
        errors: list[ValidationError] = []
        for position, action in enumerate(self.actions):
            choice, codename = given[2 * position] or DEFAULT, (given[2 * position + 1] or "").strip()
            deed = f"Who may {DEEDS[action][0]}"
            if choice in (EVERYONE, NOBODY):
                rules[action] = choice == EVERYONE
            elif choice in AUDIENCES:
                rules[action] = choice
            elif choice == HOLDERS and codename:
                rules[action] = codename
            elif choice == HOLDERS:
                errors.append(ValidationError(f"{deed}: name the permission, such as blog.change_post."))
            elif choice != DEFAULT:
                errors.append(ValidationError(f"{deed}: choose one of the options; {choice!r} is none of them."))
            elif codename:
                errors.append(
                    ValidationError(
                        f"{deed}: the permission {codename!r} is named, but another option is chosen. "
                        "Choose 'users with this permission', or clear the name."
                    )
                )
        if errors:
            raise ValidationError(errors)
        return rules


def _pair(value: object) -> tuple[str | None, str | None]:
    mode, text = [*(value if isinstance(value, Sequence) else ()), None, None][:2]
    return mode, text if isinstance(text, str) or text is None else as_lines(text)

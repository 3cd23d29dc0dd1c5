"""The form of a binding record: every key of it, with the problems on their fields."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from django import forms
from django.contrib.admin.widgets import AdminTextareaWidget, AdminTextInputWidget
from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from admin_ui.common import documents
from admin_ui.common.phrases import LABELS, describe_problem, split_problem
from admin_ui.editor.changes import ASKING, CONFIRM, Change, build_change, is_ticked
from admin_ui.editor.choices import model_choices, serializer_choices
from admin_ui.editor.fields import (
    VIEWING,
    WRITING,
    CompoundWidget,
    ListField,
    ObjectField,
    PermissionsField,
    PermissionsWidget,
    SentField,
    WritableField,
)
from admin_ui.editor.proposals import propose_stream
from declbind.codenames import declared_codenames, stored_codenames
from declbind.console import openings
from declbind.core.spec import DEFAULTS, KEYS
from declbind.django_types import Operator
from declbind.models import BindingRecord


def form_values(document: Mapping[str, object]) -> documents.Document:
    """Return a record as the form's initial values. The reverse of :meth:`BindingForm.build_document`."""
    blank = BindingRecord()
    values = {key: document.get(key, getattr(blank, key)) for key in KEYS if key != "exclude"}
    values["writable"] = {"writable": values["writable"]}
    values["fields"] = {key: document[key] for key in ("fields", "exclude") if key in document}
    values["writers"] = values["permissions"]
    return values


class BindingForm(forms.ModelForm):  # type: ignore[type-arg]
    """The form of a record. For each request, the admin makes a subclass and sets its attributes."""

    #: The user who edits.
    user: Operator | None = None
    #: Whether the form is read-only: then it is validated, but never valid.
    only_look: bool = False
    #: The initial record in place of the stored one: a record that was edited on another page.
    unsaved: documents.Document | None = None
    #: The values of ``EXTRA`` from that page.
    carried: Mapping[str, str] = {}

    model = forms.CharField(
        label=LABELS["model"], widget=forms.Select, help_text=gettext_lazy("The model whose rows are sent.")
    )
    stream = forms.CharField(
        required=False,
        label=LABELS["stream"],
        widget=AdminTextInputWidget({"maxlength": 64, "spellcheck": "false", "autocapitalize": "none"}),
        help_text=gettext_lazy("The name that clients use: letters, digits, '.', '_' and '-'."),
    )
    description = forms.CharField(
        required=False,
        label=LABELS["description"],
        strip=False,
        widget=AdminTextareaWidget({"rows": 2}),
        help_text=gettext_lazy("The purpose of the binding."),
    )
    enabled = forms.BooleanField(
        required=False,
        label=LABELS["enabled"],
        help_text=gettext_lazy("Clear it to stop the stream. Clients then see it as if it did not exist."),
    )
    # The record's key of this name. Django removes it from the class, whose attribute is the dict of all form fields.
    fields = SentField(  # type: ignore[assignment]
        label=gettext_lazy("What is sent"),
        help_text=gettext_lazy(
            "The primary key is always sent. Fields that look like passwords or tokens are never sent unless "
            "they are named under 'Sensitive fields'."
        ),
    )
    grow = forms.BooleanField(
        required=False,
        label=gettext_lazy("Include later fields"),
        help_text=gettext_lazy(
            "For all fields, or all except some: also send fields that are added to the model later. Otherwise "
            "they are sent after they have been accepted on this page."
        ),
    )
    groups = ListField(
        label=LABELS["groups"],
        help_text=gettext_lazy(
            "Subscribers choose the rows that they receive by group. Write one group per line: room-{room_id} "
            "makes a group for each room. If empty, there is one group for all rows, named like the stream."
        ),
    )
    where = ObjectField(
        builds="where",
        label=gettext_lazy("Only rows where"),
        help_text=gettext_lazy(
            'JSON, such as {"published": true, "status": ["open", "answered"]}. '
            "Other rows do not exist for this binding. If empty, all rows do."
        ),
    )
    auto_subscribe = forms.BooleanField(
        required=False,
        label=gettext_lazy("Subscribe new connections"),
        help_text=gettext_lazy(
            "Clients receive these rows as soon as they connect. Groups that depend on a field, such as "
            "room-{room_id}, still need a subscription."
        ),
    )
    serializer = forms.CharField(
        label=LABELS["serializer"],
        widget=forms.Select,
        help_text=gettext_lazy("The code that turns a row into data, from the project's settings."),
    )
    sensitive = ListField(
        rows=2,
        picks="sensitive",
        label=gettext_lazy("Sensitive fields"),
        help_text=gettext_lazy("Fields like passwords that you do want to send, one name per line."),
    )
    capture = forms.ChoiceField(
        choices=[
            ("orm", gettext_lazy("By this project, through Django: saves, deletes, bulk calls, fixtures")),
            ("triggers", gettext_lazy("Also by raw SQL and other programs, with database triggers")),
        ],
        widget=forms.RadioSelect({"class": "radiolist"}),
        label=gettext_lazy("Changes that are noticed"),
        help_text=gettext_lazy(
            "Triggers work after an administrator has run <code>manage.py declbind triggers --install</code>. "
            "Saving this form changes no table."
        ),
    )
    also = ListField(
        rows=2,
        label=gettext_lazy("Send again when these change"),
        help_text=gettext_lazy(
            "A row is sent again when a related row changes: one relation per line, such as author, "
            "or author__team for the author and the author's team."
        ),
    )
    retention = forms.IntegerField(
        required=False,
        min_value=60,
        max_value=2_147_483_647,
        label=gettext_lazy("Delete sent values after"),
        help_text=gettext_lazy(
            "Seconds, at least 60. It can only shorten the time that the project sets for all streams "
            "(RETENTION_SECONDS). If empty, that time applies."
        ),
    )
    permissions = PermissionsField(VIEWING, label=gettext_lazy("Who may see it"))
    writers = PermissionsField(WRITING, label=gettext_lazy("Who may change rows"))
    scope = ObjectField(
        builds="scope",
        label=gettext_lazy("Own rows only"),
        help_text=gettext_lazy(
            'JSON, such as {"owner_id": "$user.pk"}: each user is limited to their own rows. '
            "Each group template must contain these fields. If empty, there is no such limit."
        ),
    )
    direction = forms.ChoiceField(
        label=LABELS["direction"],
        choices=[
            ("both", gettext_lazy("Clients receive rows, and may change them as far as is allowed below")),
            ("outbound", gettext_lazy("Clients receive rows and change nothing")),
            ("inbound", gettext_lazy("Clients change rows and receive none")),
        ],
        widget=forms.RadioSelect({"class": "radiolist"}),
    )
    writable = WritableField(
        label=gettext_lazy("Fields that clients may change"),
        help_text=gettext_lazy("In new and in existing rows, but never the primary key."),
    )
    relate = ObjectField(
        builds="relate",
        label=gettext_lazy("Related rows"),
        help_text=gettext_lazy(
            'JSON, such as {"project": {"owner_id": "$user.pk"}, "tags": "any"}: the rows that clients may '
            "choose for a relation. If users are limited to their own rows, each relation that they may change needs "
            "one."
        ),
    )
    note = forms.CharField(
        required=False,
        label=gettext_lazy("Note"),
        max_length=500,
        widget=AdminTextInputWidget,
        help_text=gettext_lazy("The reason for the change, for readers of the revisions."),
    )
    opened_with = forms.CharField(required=False, label="", widget=forms.HiddenInput)
    #: The page shows this checkbox beside the text that it confirms.
    confirm_widening = forms.CharField(required=False, widget=forms.HiddenInput)

    class Meta:
        model = BindingRecord
        fields = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        instance = kwargs.get("instance")
        #: The record as it is stored now; empty for a new one.
        self.before: documents.Document = instance.definition() if instance is not None and instance.pk else {}
        #: The fields that it does not send until they are accepted.
        self.held: list[str] = instance.held() if instance is not None and self.before else []
        #: The record of the form: its initial values, and after cleaning the submitted ones.
        self.document: documents.Document = self.unsaved if self.unsaved is not None else self.before
        #: The stored record, if another user changed it during the edit.
        self.theirs: documents.Document | None = None
        given = kwargs.get("initial") or {}
        kwargs["initial"] = {
            **form_values(self.document),
            "opened_with": documents.fingerprint(self.before) if self.before else "",
            **given,
            **self.carried,
        }
        super().__init__(*args, **kwargs)
        self.initial = {**self.initial, **kwargs["initial"]}
        self._prepare_widgets()

    @property
    def inputs(self) -> dict[str, forms.Field]:
        """The form fields by name."""
        found: dict[str, forms.Field] = vars(self)["fields"]
        return found

    def _prepare_widgets(self) -> None:
        values = self.inputs
        for name, choices in (
            ("model", model_choices(str(self.initial.get("model") or ""))),
            ("serializer", serializer_choices(str(self.initial.get("serializer") or "default"))),
        ):
            select: Any = values[name].widget
            select.choices = choices
        for name in ("fields", "permissions", "writers", "writable"):
            compound = values[name].widget
            if isinstance(compound, CompoundWidget):
                compound.group_label = str(values[name].label)
        if not self.before:
            values["stream"].help_text = " ".join(
                (str(values["stream"].help_text), _("If empty, it is made from the model."))
            )
        codenames = sorted(declared_codenames() | stored_codenames())
        for name in ("permissions", "writers"):
            widget = values[name].widget
            if isinstance(widget, PermissionsWidget):
                widget.codenames = codenames
        if self.user is not None and not self.user.has_perm(openings.EXPOSE_SENSITIVE):
            values["sensitive"].disabled = True
            values["sensitive"].help_text = _(
                "Fields like passwords that are sent all the same. Only users with the permission {permission} may "
                "change this."
            ).format(permission=openings.describe_permission(openings.EXPOSE_SENSITIVE))

    # --- the record of the form
    # ------------------------------------------------------------------------------------------------

    def build_document(self) -> documents.Document:
        """Return the record that the form describes. A field with an error keeps its stored value."""
        found: documents.Document = {}
        for key in KEYS:
            if key == "exclude":
                continue
            if key == "permissions":
                found[key] = self._build_permissions()
            elif key in self.cleaned_data:
                value = self.cleaned_data[key]
                found.update(value if key in ("fields", "writable") else {key: value})
            else:
                found.update({name: self.before[name] for name in _names(key) if name in self.before})
        if isinstance(found.get("description"), str):
            # Browsers use their own line endings in a text area.
            found["description"] = found["description"].replace("\r\n", "\n")
        return documents.keep_spelling(self.before, documents.normalise(found))

    def _build_permissions(self) -> Any:
        """Return the rules of both fields; an action whose field has an error keeps its stored rule."""
        stored = self.before.get("permissions", {})
        if "permissions" not in self.cleaned_data and "writers" not in self.cleaned_data:
            return stored
        rules: dict[str, Any] = {}
        for name, actions in (("permissions", VIEWING), ("writers", WRITING)):
            given: Any = self.cleaned_data.get(name, stored)
            given = dict.fromkeys(actions, given) if isinstance(given, str) else given
            rules.update({action: given[action] for action in actions if action in given})
        return rules

    def clean_stream(self) -> str:
        """Make a name from the model if a new binding was given none. Without a model, only that is reported."""
        stream = str(self.cleaned_data.get("stream") or "")
        return stream or ("" if self.before else propose_stream(str(self.cleaned_data.get("model") or "")))

    @property
    def is_changed(self) -> bool:
        """Whether the form differs from the stored record."""
        return documents.canonical(self.before) != documents.canonical(self.document)

    @property
    def change(self) -> Change:
        """The edit in words; empty for an incomplete new record."""
        if not self.document.get("model") or not self.is_changed:
            return Change()
        return build_change(self.before or None, self.document, self.held)

    def is_valid(self) -> bool:
        """Return whether the form may be stored."""
        return super().is_valid() and not self.only_look

    @property
    def only_disables(self) -> bool:
        """Whether the edit only disables the record, which must work even if it has become invalid."""
        return is_only_disabled(self.before, self.document)

    # --- validation --------------------------------------------------------------------------------------------------

    def _post_clean(self) -> None:
        # Replaces Django's own, which assumes one form field per model field.
        #: Inputs that could not be parsed. The document does not contain their values.
        self.unread = set(self.errors)
        self.document = self.build_document()
        if not self.only_look:
            self._refuse_conflict()
        if self.only_disables:
            self.instance.enabled = False
            return
        self.instance.assign(self.document)
        try:
            self.instance.full_clean()
        except ValidationError as error:
            for name, errors in self._place(error):
                if name != "stream" or self.document.get("stream") or "model" not in self.unread:
                    self.add_error(name, errors)
        missing = (
            openings.missing_permissions(self.user, self.before, self.document, held=self.held) if self.user else ()
        )
        for problem in missing:
            key = _input_of(problem.key, problem.path)
            self.add_error(key if key in self.inputs else None, ValidationError(describe_problem(problem)))
        change = self.change
        if not self.errors and not self.only_look and not is_ticked(self.cleaned_data, change.digest):
            self.add_error(None, ValidationError(ASKING, code=CONFIRM))

    def _place(self, error: ValidationError) -> Iterator[tuple[str | None, list[ValidationError]]]:
        """Yield the form field that each problem belongs to. Problems that a field itself has reported are left out."""
        unclear = set(self.errors)
        found: dict[str | None, list[ValidationError]] = {}
        for key, errors in error.update_error_dict({}).items():
            for problem in (split_problem(key, text) for item in errors for text in item.messages):
                name = _input_of(key, problem.path)
                known = name if name != NON_FIELD_ERRORS and name in self.inputs else None
                if known not in unclear:
                    found.setdefault(known, []).append(ValidationError(describe_problem(problem)))
        yield from found.items()

    def _refuse_conflict(self) -> None:
        opened_with = self.cleaned_data.get("opened_with") or ""
        if not self.before or opened_with == documents.fingerprint(self.before):
            return
        self.theirs = self.before
        # The response shows both versions, so the next save is made with knowledge of them.
        data: Any = self.data.copy()  # type: ignore[attr-defined]
        data[self.add_prefix("opened_with")] = documents.fingerprint(self.before)
        self.data = data
        self.add_error(
            None,
            ValidationError(
                _(
                    "Another user changed this binding while you were editing it. Nothing was saved. Compare both "
                    "versions below. Saving again replaces the other version with yours."
                ),
                code="conflict",
            ),
        )


def is_only_disabled(old: documents.Document, new: documents.Document) -> bool:
    """Return whether ``new`` is ``old``, but disabled."""
    if not old or old.get("enabled", DEFAULTS["enabled"]) is False or new.get("enabled") is not False:
        return False
    rest = {key: value for key, value in new.items() if key != "enabled"}
    return documents.canonical(rest) == documents.canonical({k: v for k, v in old.items() if k != "enabled"})


def _input_of(key: str, path: str) -> str:
    """Return the form field for a problem of a record's key."""
    if key == "exclude":
        return "fields"
    is_writing = path.removeprefix("$.permissions.") in WRITING
    return "writers" if key == "permissions" and is_writing else key


def _names(key: str) -> tuple[str, ...]:
    return ("fields", "exclude") if key == "fields" else (key,)

"""Rows in the form of a Django REST framework serializer."""

import pytest
from django.contrib.auth.models import Group
from rest_framework import serializers

from declbind.serializers.drf import serialize_with
from declbind.testing import capture_events, override_bindings


class GroupSerializer(serializers.ModelSerializer[Group]):
    """A serializer of a group's name and its length."""

    length = serializers.SerializerMethodField()

    class Meta:
        model = Group
        fields = ("id", "name", "permissions", "length")

    def get_length(self, group: Group) -> int:
        """Return the number of characters."""
        return len(group.name)


send_group = serialize_with(GroupSerializer)


@pytest.mark.django_db
def test_a_record_may_name_a_rest_framework_serializer(settings):
    """The class makes the data; the record still decides which fields of the model are sent."""
    settings.DECLBIND = {"SERIALIZERS": {"group": f"{__name__}.send_group"}}
    record = {"stream": "groups", "model": "auth.Group", "fields": ["name"], "serializer": "group"}
    with override_bindings(record), capture_events() as events:
        Group.objects.create(name="editors")
    assert [event.data for event in events] == [{"name": "editors", "length": 7}]

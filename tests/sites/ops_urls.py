"""Addresses of the site with an admin of its own."""

from django.contrib.admin import AdminSite
from django.urls import path

from admin_ui.bindings.history import BindingRevisionAdmin
from admin_ui.pages.nodes import NodeAdmin
from admin_ui.records import BindingRecordAdmin
from declbind.models import BindingRecord, BindingRevision, Node

site = AdminSite(name="ops")
site.register(BindingRecord, BindingRecordAdmin)
site.register(BindingRevision, BindingRevisionAdmin)
site.register(Node, NodeAdmin)

urlpatterns = [path("ops/", site.urls)]

"""Registration of the pages with the default admin site.

A project with a site of its own registers the same classes there:
``site.register(BindingRecord, BindingRecordAdmin)``.
"""

from django.contrib import admin

from admin_ui.records import BindingRecordAdmin, BindingRevisionAdmin, NodeAdmin
from declbind.models import BindingRecord, BindingRevision, Node

admin.site.register(BindingRecord, BindingRecordAdmin)
admin.site.register(BindingRevision, BindingRevisionAdmin)
admin.site.register(Node, NodeAdmin)

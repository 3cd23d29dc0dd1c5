"""Admin pages for blogs and posts; open pages show changes at once."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from example_site.blog.models import Blog, Post


@admin.register(Blog)
class BlogAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ("title", "slug")
    prepopulated_fields = {"slug": ("title",)}


@admin.register(Post)
class PostAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ("title", "blog", "published", "author", "created")
    list_filter = ("blog", "published")
    search_fields = ("title", "body")

    def save_model(self, request: HttpRequest, obj: Post, form: Any, change: bool) -> None:
        if not change:
            obj.author_id = request.user.pk
        super().save_model(request, obj, form, change)

"""Blogs and their posts."""

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.urls import reverse


class Blog(models.Model):
    """A blog about one subject, such as a match or a conference."""

    title = models.CharField(max_length=120)
    slug = models.SlugField(unique=True)

    class Meta:
        ordering = ("title",)

    def __str__(self) -> str:
        return self.title

    def get_absolute_url(self) -> str:
        return reverse("blog", args=[self.slug])


class Post(models.Model):
    """One entry. Readers see it while it is published."""

    blog = models.ForeignKey(Blog, on_delete=models.CASCADE, related_name="posts")
    title = models.CharField(max_length=80)
    body = models.TextField(max_length=4000)
    published = models.BooleanField(default=True)
    author = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, editable=False
    )
    created = models.DateTimeField(auto_now_add=True)
    modified = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ("-created", "-pk")
        constraints = (
            models.UniqueConstraint(
                fields=("blog", "title"),
                name="blog_post_title",
                violation_error_message="This blog has a post with this title already.",
            ),
        )

    def __str__(self) -> str:
        return self.title

    def clean(self) -> None:
        if len(self.title) > 10 and self.title.isupper():
            raise ValidationError({"title": "Please do not shout."})

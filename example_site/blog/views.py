"""The pages of the list of blogs and of one blog."""

from django.db.models import Count, Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render

from example_site.blog.models import Blog


def blogs(request: HttpRequest) -> HttpResponse:
    """List the blogs with the number of their published posts."""
    rows = Blog.objects.annotate(published=Count("posts", filter=Q(posts__published=True)))
    return render(request, "blog/blogs.html", {"blogs": rows})


def blog(request: HttpRequest, slug: str) -> HttpResponse:
    """Show a blog's posts; the script keeps them up to date and lets editors write."""
    found = get_object_or_404(Blog, slug=slug)
    is_editor = request.user.has_perm("blog.change_post")
    posts = found.posts.all() if is_editor else found.posts.filter(published=True)
    context = {
        "blog": found,
        "posts": posts,
        "is_editor": is_editor,
        "stream": "blog-desk" if is_editor else "blog-posts",
    }
    return render(request, "blog/blog.html", context)

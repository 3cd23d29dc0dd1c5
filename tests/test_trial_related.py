"""Tries of a change name the other rows that it sends, as the write would send them."""

from __future__ import annotations

import pytest

from declbind.console.trial import Question, make_trial
from declbind.core.course import Check
from declbind.models import Event
from declbind.testing import override_bindings
from example_site.blog.models import Blog, Post
from tests.live import ANYONE
from tests.zoo.models import Animal, Food, Keeper

pytestmark = pytest.mark.django_db

BLOGS = {"stream": "blogs", "model": "blog.Blog", "fields": ["title"], "permissions": ANYONE}
POSTS = {"stream": "posts", "model": "blog.Post", "fields": ["title"], "permissions": ANYONE}


def frames_of(action: str, blog: Blog) -> str:
    step = make_trial(Question(stream="blogs", action=action, pk=blog.pk)).step(Check.FRAMES)
    assert step is not None
    return step.text


def test_lists_that_lose_the_row_are_counted() -> None:
    """The list of an animal's foods is a field of the animal."""
    food = Food.objects.create(name="Hay")
    animal = Animal.objects.create(name="Cow", keeper=Keeper.objects.create(name="Ann"))
    animal.foods.add(food)
    foods = {"stream": "foods", "model": "zoo.Food", "fields": ["name"], "permissions": ANYONE}
    animals = {"stream": "animals", "model": "zoo.Animal", "fields": ["name", "foods"], "permissions": ANYONE}
    with override_bindings(foods, animals):
        step = make_trial(Question(stream="foods", action="outbound-delete", pk=food.pk)).step(Check.FRAMES)
        assert step is not None
        assert "animals (1 row)" in step.text
        food.delete()
        assert Event.objects.filter(stream="animals").count() == 1


@pytest.mark.parametrize(
    ("action", "also", "text"),
    [
        ("outbound", ["blog"], "posts (2 rows)"),
        ("outbound", [], ""),
        ("outbound-delete", [], "posts (2 rows)"),
        ("outbound-create", ["blog"], ""),
    ],
)
def test_related_rows_are_counted_as_the_write_reports_them(action: str, also: list[str], text: str) -> None:
    """By `also` for a change, by cascades for a delete; a new row has no related ones yet."""
    blog = Blog.objects.create(title="One", slug="one")
    for number in range(2):
        Post.objects.create(blog=blog, title=f"Post {number}", body="...")
    with override_bindings(BLOGS, {**POSTS, "also": also}):
        told = frames_of(action, blog)
        assert ("posts" in told) == bool(text)
        assert text in told
        if action == "outbound-create":
            return
        before = Event.objects.count()
        blog.save() if action == "outbound" else blog.delete()
        written = Event.objects.filter(stream="posts").count()
    assert written == (2 if text else 0)
    assert Event.objects.count() > before

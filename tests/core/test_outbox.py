"""The outbox of a connection: its order, its limits and its size."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from declbind.core.hub import Limits, Outbox

LIMITS = Limits(bytes=1_000_000, frames=1_000, seconds=10.0)


def test_outbox_gives_frames_back_in_order():
    """Frames are popped in the order in which they were pushed, and the size follows."""
    outbox = Outbox(LIMITS)
    for text in ("a", "bb", "ccc"):
        assert outbox.push(text, 0.0)
    assert (len(outbox), outbox.size) == (3, 6)
    assert [outbox.pop() for _ in range(3)] == ["a", "bb", "ccc"]
    assert (len(outbox), outbox.size) == (0, 0)
    with pytest.raises(IndexError):
        outbox.pop()


@pytest.mark.parametrize(
    ("limits", "frame", "fits"),
    [
        (Limits(frames=3), "x", 3),
        (Limits(bytes=10), "xxx", 3),
        (Limits(bytes=10), "x" * 5, 2),
        # One frame above the limit must pass, or its client could never be served at all.
        (Limits(bytes=10), "x" * 50, 1),
    ],
)
def test_outbox_refuses_what_passes_a_limit(limits, frame, fits):
    """A refused frame is not added, and there is room again once the client has read."""
    outbox = Outbox(limits)
    assert [outbox.push(frame, 0.0) for _ in range(fits + 2)] == [True] * fits + [False] * 2
    assert (len(outbox), outbox.size) == (fits, fits * len(frame))
    outbox.pop()
    assert outbox.push(frame, 0.0)


def test_outbox_refuses_when_the_oldest_frame_has_waited_too_long():
    """A client that has read nothing for ten seconds gets nothing more; one that reads from time to time does."""
    outbox = Outbox(Limits(seconds=10.0))
    outbox.push("old", 100.0)
    outbox.push("new", 109.0)
    assert (outbox.is_stale(110.0), outbox.is_stale(110.1)) == (False, True)
    assert not outbox.push("x", 110.1)
    outbox.pop()
    assert not outbox.is_stale(110.1)
    assert outbox.push("x", 110.1)


def test_empty_outbox_is_never_stale():
    """A quiet stream does not make a client slow."""
    assert not Outbox(LIMITS).is_stale(1e9)


def test_cleared_outbox_is_empty():
    """The frames of a connection that is about to be closed are dropped, and its size is reset."""
    outbox = Outbox(LIMITS)
    outbox.push("abc", 0.0)
    outbox.clear()
    assert (len(outbox), outbox.size) == (0, 0)


@given(st.lists(st.integers(0, 9), min_size=1), st.integers(1, 5), st.integers(1, 20))
def test_taking_several_frames_loses_none(lengths, count, characters):
    """At least one frame, as many as fit both limits, in order, and the size follows."""
    outbox = Outbox(LIMITS)
    texts = [chr(97 + number % 26) * length for number, length in enumerate(lengths)]
    for text in texts:
        outbox.push(text, 0.0)
    taken: list[str] = []
    while outbox:
        some = outbox.take(count, characters)
        assert 1 <= len(some) <= count
        assert len(some) == 1 or len("".join(some)) <= characters
        taken += some
        assert outbox.size == len("".join(texts[len(taken) :]))
    assert taken == texts
    assert outbox.take(1, 1) == ()

"""The memory of recent events: complete above its floor, bounded, by stream."""

from hypothesis import given
from hypothesis import strategies as st

from declbind.core.hub import LogEvent
from declbind.core.recent import Recent


def make_event(offset: int, stream: str = "s", data: str = "{}") -> LogEvent:
    return LogEvent(offset, offset, "row", stream, "m", "1", (("g", "update"),), data, 1)


def test_events_after_an_offset_are_given_in_order() -> None:
    """Only events of the stream after the offset are returned, in order."""
    recent = Recent()
    recent.start(10)
    for offset, stream in ((11, "a"), (12, "b"), (14, "a")):
        recent.add(make_event(offset, stream))
    assert [event.offset for event in recent.since("a", 10) or ()] == [11, 14]
    assert [event.offset for event in recent.since("a", 11) or ()] == [14]
    assert recent.since("c", 10) == []


def test_what_is_not_held_is_not_given_in_part() -> None:
    """Below the floor the answer is None, and the caller reads the log."""
    recent = Recent(events=2)
    recent.start(0)
    for offset in (1, 2, 3):
        recent.add(make_event(offset))
    assert recent.floor == 1
    assert recent.since("s", 0) is None
    assert [event.offset for event in recent.since("s", 1) or ()] == [2, 3]


def test_large_events_push_the_others_out() -> None:
    """The bound on characters applies like the one on events."""
    recent = Recent(characters=100)
    recent.start(0)
    recent.add(make_event(1, data="x" * 60))
    recent.add(make_event(2, data="x" * 60))
    assert (len(recent), recent.floor) == (1, 1)


@given(st.lists(st.sampled_from("abc"), max_size=60), st.integers(1, 20), st.integers(0, 60))
def test_memory_and_log_agree(streams: list[str], size: int, after: int) -> None:
    """The events in memory are exactly those in the log."""
    recent, log = Recent(events=size), []
    recent.start(0)
    for offset, stream in enumerate(streams, 1):
        log.append(make_event(offset, stream))
        recent.add(log[-1])
    for stream in "abc":
        found = recent.since(stream, after)
        assert found is None or found == [event for event in log if event.stream == stream and event.offset > after]
        assert (found is None) == (after < len(streams) - size)

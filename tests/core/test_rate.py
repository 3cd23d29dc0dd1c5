"""The rate limit: a burst, then a steady rate, and a measure of continued excess."""

import pytest

from declbind.core.rate import RateLimit


def test_burst_passes_and_the_next_does_not():
    """Forty messages at once pass; the forty-first is refused."""
    limit = RateLimit(20, 40, now=0.0)
    assert [limit.allows(0.0) for _ in range(42)] == [True] * 40 + [False] * 2


def test_rate_passes_for_ever():
    """Messages at the allowed rate are never refused."""
    limit = RateLimit(20, 40, now=0.0)
    assert all(limit.allows(number / 20) for number in range(2_000))


@pytest.mark.parametrize("factor", [2, 10])
def test_no_more_than_burst_and_rate_pass(factor):
    """Over any time, the number that passes is the burst plus the rate times the seconds."""
    limit = RateLimit(20, 40, now=0.0)
    passed = sum(limit.allows(number / (20 * factor)) for number in range(20 * factor * 10))
    assert passed == pytest.approx(40 + 20 * 10, abs=1)


def test_silence_saves_up_one_burst_and_no_more():
    """An hour of silence allows forty messages, not seventy thousand."""
    limit = RateLimit(20, 40, now=0.0)
    assert sum(limit.allows(3600.0) for _ in range(100)) == 40


def test_who_goes_on_is_measured_from_the_first_refusal():
    """The seconds over the rate run on even though some messages pass at the rate."""
    limit = RateLimit(20, 40, now=0.0)
    assert limit.seconds_over(0.0) == 0.0
    now = 0.0
    for _ in range(100 * 12):
        limit.allows(now)
        now += 0.01
    assert limit.seconds_over(now) > 10.0


def test_who_calms_down_starts_afresh():
    """A pause of half a burst resets the measured excess."""
    limit = RateLimit(20, 40, now=0.0)
    for _ in range(50):
        limit.allows(0.0)
    assert limit.allows(0.5)
    assert limit.seconds_over(0.5) == 0.5
    assert limit.allows(2.0)
    assert limit.seconds_over(2.0) == 0.0


def test_clock_that_stands_still_gives_nothing():
    """Only the passing of time fills the bucket."""
    limit = RateLimit(1, 1, now=5.0)
    assert [limit.allows(5.0), limit.allows(5.0), limit.allows(6.0)] == [True, False, True]

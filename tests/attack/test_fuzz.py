"""Whatever clients send, in any order, the server continues, changes nothing forbidden, and disturbs no other client.

The long form is `make fuzz`. A failure names the seed and a file with the last frames.
"""

from __future__ import annotations

import asyncio

import pytest

from tests.attack.fuzzing.frames import Frame, Generator
from tests.attack.fuzzing.sabotage import VARIANTS
from tests.attack.fuzzing.siege import BATCH, Breach, Siege

#: For each server.
FRAMES = 10_000
SEED = 20_260_101
CODES = {
    "malformed", "too_large", "unknown_stream", "unknown_action", "closed_direction", "denied", "not_found", "invalid",
    "conflict",
}  # fmt: skip


@pytest.mark.timeout(300)
@pytest.mark.parametrize("program", ["uvicorn", "daphne"])
def test_no_frame_has_a_forbidden_effect(program):
    """Frames of every kind, from six sockets at once; nearly every refusal code is among the answers."""
    with Siege(program, SEED) as siege:
        outcome = asyncio.run(siege.run(FRAMES))
    # An unreadable frame has no ref, so its sender cannot be told that it was too large.
    assert CODES - {"too_large"} <= outcome.codes.keys() <= CODES
    assert outcome.ok > FRAMES / 20
    assert outcome.answers > FRAMES / 3


@pytest.mark.timeout(300)
def test_a_siege_within_the_usual_limits_is_refused():
    """With the usual limits most of the frames are refused, and other clients are not affected."""
    with Siege("uvicorn", SEED, limits='{"MESSAGES_PER_SECOND": 20, "MESSAGE_BURST": 40}') as siege:
        outcome = asyncio.run(siege.run(2 * BATCH))
    assert outcome.codes["rate_limited"] > outcome.answers / 3


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", VARIANTS)
def test_a_broken_server_is_detected(name):
    """Control: each check detects its fault, and reports which frames were sent."""
    with Siege("uvicorn", SEED, sabotage=name, patience=5.0) as siege, pytest.raises(Breach) as caught:
        asyncio.run(siege.run(3 * BATCH))
    assert caught.value.check == VARIANTS[name][1]
    assert f"seed {SEED}, uvicorn" in caught.value.__notes__[0]


def test_a_seed_gives_the_same_frames():
    """The frames of a failure can be sent again."""
    first, second, other = Generator(1), Generator(1), Generator(2)
    frames = [first.next() for _ in range(500)]
    assert [second.next() for _ in range(500)] == frames
    assert [other.next() for _ in range(500)] != frames
    assert {type(frame.data) for frame in frames} == {str, bytes}
    assert Frame("x") not in frames

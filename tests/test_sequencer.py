"""The order of the log under concurrent writers and relays: no event lost or repeated, each row in its order.

The races run in processes of their own, on databases of their own: this module is also their program. By default the
writers run for eight seconds, with ``DECLBIND_SOAK=1`` for thirty.
"""

import os

import pytest

from tests.sequencing import RELAYS, check_order, run_program

SECONDS = "30" if os.environ.get("DECLBIND_SOAK") == "1" else "8"


@pytest.fixture(scope="module", params=["postgres", "mariadb"])
def outcome_of_the_race(request, database_names):
    """Run the race once per database, for all tests that use it."""
    server = request.getfixturevalue(f"{request.param}_process")
    return run_program(server.start().create_database(next(database_names)), "soak", SECONDS)


@pytest.fixture(params=["postgres", "mariadb"])
def empty_database(request):
    return request.getfixturevalue(f"{request.param}_database")


def test_every_committed_event_is_read_once_and_in_order(outcome_of_the_race):
    """With eight writers and three relays, the log is dense, and each row's versions ascend."""
    assert len(outcome_of_the_race["committed"]) > 200
    assert outcome_of_the_race["rolled_back"] > 50
    check_order(outcome_of_the_race["committed"], outcome_of_the_race["reader"])


def test_several_relays_share_the_work(outcome_of_the_race):
    """More than one relay numbered events, together each event once, and no event is left."""
    assert len([count for count in outcome_of_the_race["sequenced"] if count]) > 1
    assert sum(outcome_of_the_race["sequenced"]) == len(outcome_of_the_race["reader"])
    assert outcome_of_the_race["waiting"] == 0


def test_cursor_over_ids_would_be_caught(outcome_of_the_race):
    """Negative control: in the same race a reader by ids loses events."""
    naive = [[place, *event[1:]] for place, event in enumerate(outcome_of_the_race["naive"], 1)]
    with pytest.raises(AssertionError, match="something was lost"):
        check_order(outcome_of_the_race["committed"], naive)


def test_event_that_commits_late_is_read_late(empty_database):
    """A low id that becomes visible after a higher one gets the later number; a cursor over ids never sees it."""
    outcome = run_program(empty_database, "commit_late")
    check_order(outcome["committed"], outcome["reader"])
    assert [pk for _, _, pk, _ in outcome["reader"]] == [2, 1]
    with pytest.raises(AssertionError):
        check_order(outcome["committed"], [[place, *event[1:]] for place, event in enumerate(outcome["naive"], 1)])


def test_concurrent_relays_number_each_event_once(empty_database):
    """The second waits for the first's lock, and reads only when it has it."""
    outcome = run_program(empty_database, "race_relays", "lock first")
    check_order(outcome["committed"], outcome["reader"])
    assert outcome["head"] == 5


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_concurrent_relays_do_not_fail_in_a_stricter_isolation_level(postgres_database, level):
    """The sequencer's transactions are READ COMMITTED, whatever the default of the database or the role."""
    options = f"-c default_transaction_isolation={level}".replace(" read", "\\ read")
    outcome = run_program(postgres_database, "race_relays", "lock first", PGOPTIONS=options)
    check_order(outcome["committed"], outcome["reader"])
    assert outcome["faults"] == []


def test_reading_before_locking_would_be_caught(empty_database):
    """Both relays have read the same events and number them one after the other."""
    outcome = run_program(empty_database, "race_relays", "read first")
    with pytest.raises(AssertionError, match="gaps"):
        check_order(outcome["committed"], outcome["reader"])


def test_sqlite_gives_ids_in_the_order_of_commits(tmp_path):
    """On SQLite the id is the offset: dense despite rollbacks, and no reader of several processes misses one."""
    outcome = run_program(f"sqlite:///{tmp_path}/log.sqlite3", "soak", "3")
    assert len(outcome["committed"]) > 50
    assert outcome["rolled_back"] > 10
    assert outcome["sequenced"] == [0] * RELAYS
    check_order(outcome["committed"], outcome["reader"])


SEEN = [[1, 11, None, None], [2, 12, 5, 1], [3, 13, 6, 1], [4, 14, 5, 2]]
COMMITTED = [(5, 1), (6, 1), (5, 2)]


@pytest.mark.parametrize(
    ("seen", "message"),
    [
        (SEEN[:3], "something was lost"),
        ([*SEEN, [5, 15, 6, 2]], "came from a roll-back"),
        ([*SEEN[:3], [5, 14, 5, 2]], "gaps"),
        ([*SEEN[:3], [4, 13, 5, 2]], "came twice"),
        ([[1, 14, 5, 2], [2, 12, 5, 1], [3, 13, 6, 1]], "went back"),
    ],
)
def test_check_finds_each_kind_of_disorder(seen, message):
    """Negative control: the check that all tests above rely on finds errors."""
    check_order(COMMITTED, SEEN)
    with pytest.raises(AssertionError, match=message):
        check_order(COMMITTED, seen)

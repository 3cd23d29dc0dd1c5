"""The hub: which subscribers get an event and in which order, how often frames are built, and slow clients."""

import itertools
import json
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from declbind.core import frames
from declbind.core.groups import diff
from declbind.core.hub import Connection, Hub, Limits, LogEvent, Outbox, Subscription, Variants, frames_for

LIMITS = Limits(bytes=1_000_000, frames=1_000, seconds=10.0)


class Client:
    """One connection, and the calls to its owner."""

    def __init__(self, hub, limits=LIMITS):
        self.hub, self.flushes, self.overflows = hub, 0, 0
        #: The frames that its client has read, if it reads any.
        self.reads, self.taken = False, []
        self.connection = Connection(Outbox(limits), self._flush, self._overflow)
        hub.attach(self.connection)

    def _flush(self):
        self.flushes += 1
        if self.reads:
            self.taken += self.read()

    def _overflow(self):
        self.overflows += 1

    def subscribe(self, group, *, tagged=True, stream="s", **values):
        subscription = Subscription(self.connection, stream, group, tagged, **values)
        self.hub.subscribe(subscription)
        return subscription

    def read(self):
        """Take all waiting frames, as (group or None, action)."""
        outbox = self.connection.outbox
        contents = [json.loads(outbox.pop()) for _ in range(len(outbox))]
        return [(content.get("group"), content["payload"]["action"]) for content in contents]


class CountingVariants(Variants):
    """Variants that count how often a payload and a frame are built."""

    def __init__(self, event):
        self.payloads = []
        super().__init__(event, self._count)

    def _count(self, action):
        self.payloads.append(action)
        return frames.encode_payload(action, "1", "{}", "app.model")


def make_event(offset, *changes, stream="s", id=None):  # noqa: A002 - the name of the event's own attribute
    return LogEvent(offset, id or offset, "row", stream, "app.model", "1", tuple(changes), "{}", 1)


def dispatch(hub, event, now=0.0):
    variants = CountingVariants(event)
    hub.dispatch(event, variants, now)
    return variants


@pytest.fixture
def hub():
    return Hub()


# Who receives what
# ---------------------------------------------------------------------------------------------------


def test_subscriber_gets_events_of_its_group_only(hub):
    """A frame goes to the subscribers of the event's groups."""
    one, two = Client(hub), Client(hub)
    one.subscribe("room-1")
    two.subscribe("room-2")
    dispatch(hub, make_event(1, ("room-1", "update")))
    assert (one.read(), two.read()) == ([("room-1", "update")], [])


def test_group_of_the_same_name_in_another_stream_is_another_group(hub):
    """Two bindings may use the same group name; a subscription to one stream does not cover the other."""
    one, two = Client(hub), Client(hub)
    one.subscribe("room-1", stream="s")
    two.subscribe("room-1", stream="t")
    dispatch(hub, make_event(1, ("room-1", "update"), stream="t"))
    assert (one.read(), two.read()) == ([], [("room-1", "update")])


def test_each_tagged_subscription_gets_a_frame_of_its_own(hub):
    """A client with explicit subscriptions to two groups of an event gets a frame for each."""
    client = Client(hub)
    client.subscribe("a")
    client.subscribe("b")
    dispatch(hub, make_event(1, ("a", "delete"), ("b", "create")))
    assert client.read() == [("a", "delete"), ("b", "create")]


def test_plain_connection_gets_each_action_once(hub):
    """Without group names in the frames, two equal frames would look like two changes."""
    client = Client(hub)
    for group in "abcdef":
        client.subscribe(group, tagged=False)
    changes = diff(["a", "b", "c", "d"], ["c", "d", "e", "f"])
    dispatch(hub, make_event(1, *changes))
    assert client.read() == [(None, "delete"), (None, "update"), (None, "create")]


@given(st.lists(st.sampled_from("abcdef"), unique=True), st.lists(st.sampled_from("abcdef"), unique=True))
def test_row_goes_before_it_comes_for_every_plain_reader(old, new):
    """Whatever groups a row leaves and enters, the last frame says whether the client sees it now."""
    hub = Hub()
    client = Client(hub)
    for group in "abcdef":
        client.subscribe(group, tagged=False)
    dispatch(hub, make_event(1, *diff(old, new)))
    actions = [action for _, action in client.read()]
    assert actions == sorted(set(actions), key=["delete", "update", "create"].index)
    assert bool(new) == bool(actions and actions[-1] != "delete")


def test_plain_and_tagged_subscriptions_of_one_connection_both_get_frames(hub):
    """An explicit subscription to one group does not stop the frames of automatic ones."""
    client = Client(hub)
    client.subscribe("all", tagged=False)
    client.subscribe("room-1")
    dispatch(hub, make_event(1, ("all", "update"), ("room-1", "update")))
    assert client.read() == [(None, "update"), ("room-1", "update")]


def test_subscribing_again_replaces(hub):
    """A client that subscribes again gets each change once, in the newer form."""
    client = Client(hub)
    client.subscribe("a", tagged=False)
    client.subscribe("a")
    assert len(list(hub.subscriptions())) == 1
    dispatch(hub, make_event(1, ("a", "update")))
    assert client.read() == [("a", "update")]


def test_ending_a_replaced_subscription_leaves_the_new_one(hub):
    """Ending the old subscription late does not affect the new one."""
    client = Client(hub)
    old = client.subscribe("a")
    client.subscribe("a")
    hub.unsubscribe(old)
    hub.unsubscribe(old)
    dispatch(hub, make_event(1, ("a", "update")))
    assert client.read() == [("a", "update")]


def test_unsubscribed_and_detached_get_nothing(hub):
    """Unsubscribing or detaching ends delivery, and removes the empty group."""
    one, two = Client(hub), Client(hub)
    hub.unsubscribe(one.subscribe("a"))
    two.subscribe("a")
    two.subscribe("b")
    hub.detach(two.connection)
    hub.detach(two.connection)
    event = make_event(1, ("a", "update"), ("b", "update"))
    assert not hub.has_subscribers(event)
    dispatch(hub, event)
    assert (one.read(), two.read(), list(hub.subscriptions())) == ([], [], [])
    assert list(hub.connections) == [one.connection]


def test_hub_knows_whether_an_event_has_subscribers(hub):
    """An event without subscribers need not be turned into frames."""
    Client(hub).subscribe("a")
    assert hub.has_subscribers(make_event(1, ("b", "delete"), ("a", "create")))
    assert not hub.has_subscribers(make_event(1, ("b", "create")))
    assert not hub.has_subscribers(make_event(1, ("a", "create"), stream="t"))


def test_subscriptions_can_be_ended_while_they_are_listed(hub):
    """A change of configuration iterates over a stream's subscriptions and ends some."""
    for group in "abc":
        Client(hub).subscribe(group)
    kept = Client(hub).subscribe("a", stream="t")
    for subscription in hub.subscriptions("s"):
        hub.unsubscribe(subscription)
    assert list(hub.subscriptions()) == [kept]


def test_owner_that_leaves_during_a_dispatch_does_not_disturb_it(hub):
    """An overflow may detach its connection at once, during the loop over the members of a group."""
    first, second = Client(hub, Limits(frames=1)), Client(hub)
    first.connection.overflow = lambda: hub.detach(first.connection)
    first.subscribe("a")
    second.subscribe("a")
    for offset in (1, 2):
        dispatch(hub, make_event(offset, ("a", "update")))
    assert second.read() == [("a", "update")] * 2


# Offsets ------------------------------------------------------------------------------------------------------------


def test_what_a_client_knows_already_is_not_sent_again(hub):
    """Events up to the subscription's offset were part of its replay."""
    client = Client(hub)
    client.subscribe("a", offset=5)
    for offset in (4, 5, 6):
        dispatch(hub, make_event(offset, ("a", "update")))
    assert client.read() == [("a", "update")]


def test_subscription_that_catches_up_is_left_alone(hub):
    """While the log is read for a subscription, no live event may overtake it."""
    client = Client(hub)
    subscription = client.subscribe("a", live=False)
    dispatch(hub, make_event(1, ("a", "create")))
    assert client.read() == []
    subscription.live = True
    dispatch(hub, make_event(2, ("a", "update")))
    assert client.read() == [("a", "update")]


def test_plain_connection_gets_live_frames_while_another_group_catches_up(hub):
    """A subscription that is still catching up does not use up the single frame of its connection."""
    client = Client(hub)
    client.subscribe("a", tagged=False, live=False)
    client.subscribe("b", tagged=False)
    dispatch(hub, make_event(1, ("a", "update"), ("b", "update")))
    assert client.read() == [(None, "update")]


def test_cursor_follows_the_log_and_never_turns_back(hub):
    """The cursor is the last delivered offset, whether or not it had subscribers."""
    for offset, cursor in ((3, 3), (2, 3), (9, 9)):
        dispatch(hub, make_event(offset, ("nobody", "update")))
        assert hub.cursor == cursor


def test_replay_gives_the_frames_that_live_delivery_would_have_given(hub):
    """A replay contains the same texts as live delivery."""
    client = Client(hub)
    subscription = client.subscribe("a")
    event = make_event(4, ("b", "delete"), ("a", "create"))
    variants = dispatch(hub, event)
    assert list(frames_for(subscription, event, variants)) == [client.connection.outbox.pop()]
    subscription.offset = 4
    assert list(frames_for(subscription, event, variants)) == []


# One encoding for all -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tagged", [True, False])
def test_frame_is_built_once_for_any_number_of_clients(hub, tagged):
    """A hundred subscribers of a group get the same text object."""
    clients = [Client(hub) for _ in range(100)]
    for client in clients:
        client.subscribe("a", tagged=tagged)
    variants = dispatch(hub, make_event(1, ("a", "update")))
    assert variants.payloads == ["update"]
    assert len({id(client.connection.outbox.pop()) for client in clients}) == 1


def test_payload_is_built_once_per_action_and_frame_once_per_group(hub, monkeypatch):
    """Plain and tagged frames of many groups share the payload's text."""
    spy = Mock(wraps=frames.encode_tagged)
    monkeypatch.setattr(frames, "encode_tagged", spy)
    for group, tagged in itertools.product("abcd", (True, False)):
        for _ in range(5):
            Client(hub).subscribe(group, tagged=tagged)
    variants = dispatch(hub, make_event(1, *diff("ab", "bcd")))
    assert sorted(variants.payloads) == ["create", "delete", "update"]
    assert spy.call_count == 4


def test_nothing_is_built_for_an_event_without_subscribers(hub):
    """An event without subscribers costs one dict lookup."""
    Client(hub).subscribe("a")
    assert dispatch(hub, make_event(1, ("b", "update"))).payloads == []


def test_binding_that_sends_nothing_for_an_action_queues_nothing(hub):
    """A payload of None gives no frame, with or without group; the other actions are sent."""
    client = Client(hub)
    client.subscribe("a", tagged=False)
    client.subscribe("b")
    client.subscribe("c")
    event = make_event(1, ("a", "delete"), ("b", "delete"), ("c", "create"))
    payloads = {"delete": None, "create": '{"action":"create"}'}
    assert hub.dispatch(event, Variants(event, payloads.__getitem__), 0.0) == 1
    assert client.read() == [("c", "create")]


def test_full_queue_overflows_its_own_connection_only(hub):
    """The slow client's owner is notified, and all others get every frame."""
    slow, quick = Client(hub, Limits(frames=2)), Client(hub)
    slow.subscribe("a")
    quick.subscribe("a")
    counts = [
        hub.dispatch(event := make_event(offset, ("a", "update")), CountingVariants(event), 0.0) for offset in (1, 2, 3)
    ]
    assert counts == [2, 2, 1]
    assert (slow.overflows, quick.overflows) == (1, 0)
    assert (len(slow.read()), len(quick.read())) == (2, 3)


def test_full_queue_of_a_reader_that_reads_is_no_overflow(hub):
    """A client that reads when it is flushed may get more frames at once than a queue holds."""
    client = Client(hub, Limits(frames=2))
    client.reads = True
    client.subscribe("a")
    for offset in range(1, 8):
        dispatch(hub, make_event(offset, ("a", "update")))
    assert client.overflows == 0
    assert client.taken + client.read() == [("a", "update")] * 7


def test_connection_to_flush_is_reported_once(hub):
    """Each connection with new frames is reported once for flushing."""
    hearing, other = Client(hub), Client(hub)
    hearing.subscribe("a")
    other.subscribe("b")
    for offset in (1, 2):
        dispatch(hub, make_event(offset, ("a", "update")))
    assert hub.take_waiting() == [hearing.connection]
    assert hub.take_waiting() == []
    hearing.read()
    dispatch(hub, make_event(3, ("a", "update")))
    assert hub.take_waiting() == [hearing.connection]
    assert (hearing.flushes, other.flushes) == (0, 0)


def test_a_frame_of_its_own_is_flushed_at_once(hub):
    """A reply does not wait for the next event."""
    client = Client(hub)
    assert client.connection.push('{"payload": {"action": "reply"}}', 0.0)
    assert client.flushes == 1

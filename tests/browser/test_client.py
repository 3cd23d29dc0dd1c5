"""The JavaScript client: snapshots, changes and resumption, against a server whose every frame the test writes."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page

from declbind.serializers import encode_key
from tests.browser.scripted_server import ScriptedServer, connected, server, until

__all__ = ["server"]


def test_snapshot_is_shown_when_its_last_page_has_arrived(page: Page, server: ScriptedServer) -> None:
    """Pages are held back until the final one, and number and text keys keep their type."""
    line = connected(page, server)
    page.evaluate("watch()")
    payload = line.accept(7)
    assert payload == {
        "action": "subscribe",
        "params": {"blog_id": 3},
        "snapshot": True,
        "ref": payload["ref"],
    }
    line.snapshot(7, {1: {"t": "a"}}, final=False)
    page.evaluate("new Promise((done) => setTimeout(done, 100))")
    assert page.evaluate("[rows(), sub.state]") == [[], "subscribing"]
    line.snapshot(7, {"x": {"t": "b"}} | {2: {"t": "c"}})
    until(page, "sub.state === 'live'")
    assert sorted(page.evaluate("rows()"), key=str) == sorted([[1, "a"], ["x", "b"], [2, "c"]], key=str)


@pytest.mark.parametrize("encode", [encode_key, str], ids=["exact", "as numbers"])
def test_rows_with_large_keys_are_distinguished(page: Page, server: ScriptedServer, encode: Any) -> None:
    """Two keys that are one number to JavaScript are two rows, and are returned unchanged.

    The keys as numbers are the negative control: the browser treats them as one row.
    """
    line = connected(page, server)
    page.evaluate("watch()")
    line.accept(7)
    rows = ",".join(f'{{"pk":{encode(2**53 + n)},"data":{{"t":"{n}"}}}}' for n in (0, 1))
    payload = f'{{"action":"snapshot","model":"blog.post","objects":[{rows}],"final":true}}'
    line.socket.send(f'{{"stream":"posts","group":"blog-3","offset":7,"payload":{payload}}}')
    until(page, "sub.state === 'live'")
    page.evaluate("write(client.stream('posts').update([...sub.rows.keys()].at(-1), { t: 'x' }))")
    is_exact = encode is encode_key
    assert page.evaluate("sub.rows.size") == (2 if is_exact else 1)
    assert (int(line.read()["payload"]["pk"]) == 2**53 + 1) is is_exact


def test_changes_are_applied_once(page: Page, server: ScriptedServer) -> None:
    """Create, update and delete change the rows; a frame with a known offset has no effect."""
    line = connected(page, server)
    page.evaluate("watch()")
    line.accept(7)
    line.snapshot(7, {1: {"t": "a"}})
    line.change(7, "update", 1, {"t": "in the snapshot already"})
    line.change(8, "create", 2, {"t": "b"})
    line.change(9, "update", 1, {"t": "a2"})
    line.change(8, "create", 2, {"t": "again"})
    line.change(10, "update", 5, {"t": "unknown row"})
    line.change(11, "delete", 2, {})
    until(page, "log.some(([action]) => action === 'delete')")
    assert page.evaluate("rows()") == [[1, "a2"], [5, "unknown row"]]
    assert page.evaluate("log.filter(([name]) => ['create', 'update', 'delete'].includes(name))") == [
        ["create", 2, None],
        ["update", 1, "a"],
        ["update", 5, None],
        ["delete", 2, "b"],
    ]


def test_frames_of_other_groups_and_streams_are_ignored(page: Page, server: ScriptedServer) -> None:
    """A group belongs to its stream: the same name elsewhere is another group."""
    line = connected(page, server)
    page.evaluate("watch()")
    line.accept(1)
    line.snapshot(1, {})
    row = {"action": "create", "pk": 1, "data": {"t": "no"}, "model": "blog.post"}
    line.send(row, stream="posts", group="blog-4", offset=2)
    line.send(row, stream="drafts", group="blog-3", offset=3)
    line.change(4, "create", 2, {"t": "yes"})
    until(page, "rows().length")
    assert page.evaluate("rows()") == [[2, "yes"]]


def test_client_resumes_from_its_last_offset(page: Page, server: ScriptedServer) -> None:
    """After a lost connection the client resumes from its last offset, not from the head, with the latest proof."""
    line = connected(page, server)
    page.evaluate("watch()")
    line.accept(7)
    line.snapshot(7, {1: {"t": "a"}})
    line.change(8, "update", 1, {"t": "b"})
    until(page, "rows()[0]?.[1] === 'b'")
    line.cut()
    line = server.next_line()
    payload = line.accept(12)
    assert payload["since"] == {"epoch": "e1", "offset": 8, "resume": "proof-7"}
    assert "snapshot" not in payload
    line.change(10, "update", 1, {"t": "c"})
    until(page, "rows()[0]?.[1] === 'c'")
    line.cut()
    # Offsets 11 and 12 were announced by the reply and never arrived.
    assert server.next_line().accept(12)["since"] == {"epoch": "e1", "offset": 10, "resume": "proof-12"}


def test_an_incomplete_snapshot_is_requested_again(page: Page, server: ScriptedServer) -> None:
    """It cannot be resumed."""
    line = connected(page, server)
    page.evaluate("watch()")
    line.accept(7)
    line.snapshot(7, {1: {"t": "half"}}, final=False)
    line.cut()
    line = server.next_line()
    assert line.accept(9)["snapshot"] is True
    line.snapshot(9, {2: {"t": "whole"}})
    until(page, "sub.state === 'live'")
    assert page.evaluate("rows()") == [[2, "whole"]]


def test_resync_takes_a_new_snapshot(page: Page, server: ScriptedServer) -> None:
    """Rows deleted meanwhile disappear, and changes made during the snapshot are kept."""
    line = connected(page, server)
    page.evaluate("watch()")
    line.accept(7)
    line.snapshot(7, {1: {"t": "gone"}, 2: {"t": "old"}})
    until(page, "sub.state === 'live'")
    line.tagged(9, {"action": "resync", "reason": "bulk"})
    until(page, "sub.state === 'stale'")
    request = line.read()
    assert request["payload"]["snapshot"] is True
    line.change(11, "create", 3, {"t": "newer than the snapshot"})
    line.reply(request, group="blog-3", epoch="e1", offset=10)
    line.snapshot(10, {2: {"t": "new"}})
    until(page, "sub.state === 'live'")
    assert page.evaluate("rows()") == [[2, "new"], [3, "newer than the snapshot"]]


def test_resync_during_a_snapshot_requests_another_one(page: Page, server: ScriptedServer) -> None:
    """The snapshot that was in progress may be older than the resync."""
    line = connected(page, server)
    page.evaluate("watch()")
    line.accept(7)
    line.tagged(9, {"action": "resync", "reason": "config"})
    line.snapshot(7, {1: {"t": "too old"}})
    assert line.accept(9)["snapshot"] is True
    line.snapshot(9, {1: {"t": "fresh"}})
    until(page, "sub.state === 'live'")
    assert page.evaluate("rows()") == [[1, "fresh"]]


def test_another_epoch_discards_the_old_offsets(page: Page, server: ScriptedServer) -> None:
    """Offsets of a new epoch start low, and are not treated as repetitions."""
    line = connected(page, server)
    page.evaluate("watch()")
    line.accept(700)
    line.snapshot(700, {1: {"t": "a"}})
    until(page, "sub.state === 'live'")
    line.cut()
    line = server.next_line()
    line.accept(3, epoch="e2")
    line.tagged(3, {"action": "resync", "reason": "epoch"})
    line.accept(3, epoch="e2")
    line.snapshot(3, {1: {"t": "b"}})
    line.change(4, "update", 1, {"t": "c"})
    until(page, "rows()[0]?.[1] === 'c'")


def test_closed_ends_the_subscription_with_a_reason(page: Page, server: ScriptedServer) -> None:
    """Nothing is requested again, neither now nor after a reconnect."""
    line = connected(page, server)
    page.evaluate("watch()")
    line.accept(7)
    line.snapshot(7, {})
    line.tagged(8, {"action": "closed", "reason": "permission"})
    until(page, "sub.state === 'closed'")
    assert ["closed", "permission"] in page.evaluate("log")
    line.cut()
    assert server.next_line().silent()


def test_refused_subscription_rejects_ready(page: Page, server: ScriptedServer) -> None:
    """The reason of a refusal reaches both the promise and the event."""
    line = connected(page, server)
    page.evaluate("write(watch().ready)")
    line.refuse(line.read(), "denied")
    until(page, "result")
    assert page.evaluate("result[1]") == "denied"
    assert ["error", "denied"] in page.evaluate("log")


def test_rate_limited_subscription_is_tried_again(page: Page, server: ScriptedServer) -> None:
    """Many subscriptions at once may exceed the limit; each succeeds in the end."""
    line = connected(page, server)
    page.evaluate("watch()")
    line.refuse(line.read(), "rate_limited")
    line.accept(1)
    line.snapshot(1, {})
    until(page, "sub.state === 'live'")


def test_two_watchers_share_one_subscription(page: Page, server: ScriptedServer) -> None:
    """The second costs no request, and the server is notified only when both have ended."""
    line = connected(page, server)
    page.evaluate("window.first = watch()")
    line.accept(7)
    line.snapshot(7, {1: {"t": "a"}})
    until(page, "sub.state === 'live'")
    page.evaluate("watch().ready")
    assert page.evaluate("rows()") == [[1, "a"]]
    page.evaluate("first.unsubscribe()")
    line.change(8, "update", 1, {"t": "b"})
    until(page, "rows()[0][1] === 'b'")
    assert page.evaluate("first.state") == "closed"
    page.evaluate("sub.unsubscribe()")
    assert line.read()["payload"] == {"action": "unsubscribe", "params": {"blog_id": 3}}


# Tokens ---------------------------------------------------------------------------------------------------------------


def test_plain_frames_are_received_by_stream(page: Page, server: ScriptedServer) -> None:
    """Streams that the server subscribes to by itself have no group and no offset."""
    line = connected(page, server)
    # In braces: Playwright calls an expression whose value is a function.
    page.evaluate("() => { window.heard = []; window.off = client.on('intval', (payload) => heard.push(payload.pk)); }")
    row = {"action": "update", "data": {"value": 1}, "model": "example.integervalue"}
    line.send({**row, "pk": 1}, stream="intval")
    line.send({**row, "pk": 2}, stream="other")
    until(page, "heard.length")
    page.evaluate("off()")
    line.send({**row, "pk": 3}, stream="intval")
    page.evaluate("client.addEventListener('frame', (event) => (window.last = event.detail.payload.pk))")
    line.send({**row, "pk": 4}, stream="intval")
    until(page, "window.last === 4")
    assert page.evaluate("heard") == [1]

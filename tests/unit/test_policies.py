"""The policies without processes: admission, back-off, pace."""

from __future__ import annotations

import socket

import pytest

from forkserver.child import clock
from forkserver.ipc import control
from forkserver.ipc.backoff import Backoff
from forkserver.master.admission import Admission, peer_key
from forkserver.settings import MAX_CHILDREN


def test_a_peer_has_as_many_connections_as_it_may_have_and_no_more():
    admission = Admission(2)
    assert [admission.admit("a") for _ in range(3)] == [True, True, False]
    assert admission.admit("b")
    admission.release("a")
    assert admission.admit("a")
    assert not admission.admit("a")


def test_a_peer_that_is_gone_leaves_nothing_in_the_table():
    admission = Admission(1)
    for number in range(1000):
        assert admission.admit(str(number))
        admission.release(str(number))
    assert vars(admission)["_connections"] == {}


def test_what_other_generations_have_of_a_peer_counts_until_it_has_ended():
    admission = Admission(2)
    control.merge_peers(admission.elsewhere, {"a": 1, "b": 2})
    assert [admission.admit("a") for _ in range(2)] == [True, False]
    assert not admission.admit("b")
    control.merge_peers(admission.elsewhere, {"b": 1, "a": 0})
    assert admission.admit("a")
    assert [admission.admit("b") for _ in range(2)] == [True, False]
    assert admission.elsewhere == {"b": 1}


def test_a_master_that_discloses_its_peers_has_all_of_them_to_report_and_then_what_changes():
    admission = Admission(2)
    for peer in "aab":
        admission.admit(peer)
    admission.disclose()
    news = admission.unreported
    assert news == {"a", "b"}
    news.clear()
    admission.release("a")
    admission.admit("c")
    admission.release("b")
    assert news == {"a", "b", "c"}
    assert [admission.count(peer) for peer in "abc"] == [1, 0, 1]


@pytest.mark.parametrize("host", ["192.0.2.1", "::ffff:192.0.2.1", "2001:db8::1", "fe80::1%eth0", "3d3d:2020::1"])
def test_every_peer_survives_the_channel(host):
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        assert control.send_peers(ours, {peer_key(host)}, lambda _: 7)
        assert control.parse_peers(theirs.recv(control.MAX_PACKET_BYTES)) == {peer_key(host): 7}


def test_the_most_peers_of_one_packet_fit_into_it():
    longest = {f"{number:016x}" for number in range(3000)}
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        assert control.send_peers(ours, longest, lambda _: MAX_CHILDREN)
        assert len(theirs.recv(2 * control.MAX_PACKET_BYTES)) < control.MAX_PACKET_BYTES


def test_to_whom_is_gone_no_peer_is_owed():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.close()
    news = {"a"}
    with ours:
        assert control.send_peers(ours, news, lambda _: 1)
    assert not news


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2", True),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
    ],
)
def test_an_ipv6_peer_is_its_64_bit_network(one, other, same):
    assert (peer_key(one) == peer_key(other)) is same


def delays(backoff: Backoff, count: int, now: float = 10.0) -> list[float]:
    """The delays after failures in a row, each at the end of the delay before."""
    found = []
    for _ in range(count):
        found.append(backoff.fail(now))
        assert backoff.until == now + found[-1]
        now = backoff.until
    return found


def test_the_delay_doubles_up_to_its_cap_and_a_success_makes_it_short_again():
    backoff = Backoff()
    assert delays(backoff, 8) == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0])
    backoff.reset()
    assert backoff.fail(backoff.until) == pytest.approx(0.1)


def test_many_failures_at_once_are_one_reason_for_a_delay():
    backoff = Backoff()
    assert [backoff.fail(5.0) for _ in range(3)] == [0.1, 0.1, 0.1]


def test_where_the_first_delay_is_none_the_first_attempt_is_repeated_at_once_and_the_next_ones_later():
    backoff = Backoff(first_s=0.0)
    assert delays(backoff, 8) == pytest.approx([0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0])
    backoff.reset()
    assert backoff.fail(backoff.until) == 0.0


def test_a_pace_is_the_nearer_of_stall_and_average(monkeypatch):
    moment = [100.0]
    monkeypatch.setattr(clock, "now", lambda: moment[0])
    pace = clock.Pace(stall_s=10.0, min_rate_bytes=100)
    assert pace.deadline() == 110.0
    moment[0] = 105.0
    assert pace.deadline() == 110.0, "nothing was taken: the average is due"
    pace.sent(1000)
    assert pace.deadline() == 115.0, "1000 bytes are worth ten seconds, and a stall is due before"
    assert clock.Pace(stall_s=10.0, min_rate_bytes=0).deadline() == 115.0

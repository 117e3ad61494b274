"""Listening sockets: bound, kept over a reload, adopted, and what accepted connections inherit of them."""

from __future__ import annotations

import contextlib
import socket

import pytest

from forkserver.errors import OperatorError
from forkserver.settings import Settings
from forkserver.supervisor import listener


@pytest.fixture
def bound():
    """``bound(settings, kept)``: ``listener.bind``, closed in the end."""
    with contextlib.ExitStack() as stack:

        def bind(settings: Settings, kept=None):
            listeners = listener.bind(settings, kept)
            for each in listeners.values():
                stack.enter_context(each)
            return listeners

        yield bind


def test_what_stays_wanted_is_kept_as_it_is_and_what_is_new_is_bound(bound):
    first = bound(Settings(bind=("127.0.0.1:0",)))
    second = bound(Settings(bind=("[::1]:0", "127.0.0.1:0")), first)
    (kept,) = first.values()
    assert kept in second.values()
    assert len(second) == 2


def test_a_failed_bind_closes_what_it_bound_and_nothing_that_was_kept(bound):
    first = bound(Settings(bind=("127.0.0.1:0",)))
    (kept,) = first.values()
    with pytest.raises(OperatorError, match="no such address"):
        listener.bind(Settings(bind=("127.0.0.1:0", "[::1]:0", "192.0.2.1")), first)
    assert kept.fileno() >= 0
    kept.getsockname()


def test_a_silent_peer_is_given_up_but_not_before_a_child_would(bound):
    for stall_s, expected_ms in ((30, 60_000), (3600, 7_200_000)):
        settings = Settings(bind=("127.0.0.1:0",), stall_s=stall_s)
        listeners = bound(settings)
        listener.set_options(listeners, settings)
        (each,) = listeners.values()
        with socket.create_connection(each.getsockname()), each.accept()[0] as accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == expected_ms
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1


def test_what_is_not_sent_yet_is_bounded_for_every_connection(bound):
    settings = Settings(bind=("127.0.0.1:0",))
    listeners = bound(settings)
    listener.set_options(listeners, settings)
    (each,) = listeners.values()
    with socket.create_connection(each.getsockname()), each.accept()[0] as accepted:
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == listener.UNSENT_BYTES


def test_more_sockets_than_a_master_can_be_given_are_refused(bound):
    settings = Settings(bind=("127.0.0.1:0",))
    many = [each for _ in range(65) for each in bound(settings).values()]
    with pytest.raises(OperatorError, match="65 sockets are more than 64"):
        listener.adopt(many)


def test_an_address_in_use_is_told_with_the_remedy(bound):
    (each,) = bound(Settings(bind=("127.0.0.1:0",))).values()
    port = each.getsockname()[1]
    with pytest.raises(
        OperatorError, match=f"port {port}: .*another process listens there, or this server .*; choose another port"
    ):
        listener.bind(Settings(bind=(f"127.0.0.1:{port}",)))

"""Servers that are busy, gone, or hang up: what is asked again and what is not."""

from __future__ import annotations

import socket

import pytest


@pytest.mark.parametrize("refusal", ["busy", "too_many"])
def test_a_busy_server_is_asked_again_over_a_new_connection(fsget, lying_server, says, refusal):
    server = lying_server([getattr(says, refusal)], [says.ask, getattr(says, refusal)], says.file(b"x"))
    result = fsget("-s", server.address, "f")
    assert (result.status, result.err) == (0, "")


@pytest.mark.parametrize("step", ["ask", "reset"])
def test_a_connection_that_ends_before_the_answer_is_tried_again(fsget, lying_server, says, step):
    server = lying_server([getattr(says, step)], says.file(b"x"))
    result = fsget("-s", server.address, "f")
    assert (result.status, result.err) == (0, "")


def test_a_server_that_stays_busy_is_given_up_after_the_retries(fsget, lying_server, says):
    server = lying_server([says.ask, says.busy], [says.ask, says.busy])
    result = fsget("-s", server.address, "--retries", "1", "f")
    assert result.status == 4
    assert result.err == (
        "fsget: f: the server is busy; try again later, or for longer with a higher --retries (asked PID 4710)\n"
    )
    assert len(server.requests) == 2


def test_a_server_that_always_hangs_up_is_unreachable(fsget, lying_server, says):
    server = lying_server([says.ask])
    result = fsget("-s", server.address, "--retries", "0", "--json", "f")
    assert result.status == 5
    assert result.err.startswith(f"fsget: f: {server.address} closed the connection without an answer; ")
    assert result.objects[0]["status"] == "no-answer"


def test_nobody_listening_is_told_at_once(fsget):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        result = fsget("-s", f"127.0.0.1:{port}", "f")
    assert result.status == 5
    assert result.err == f"fsget: f: 127.0.0.1:{port} refused the connection: nothing listens there\n"


def test_a_host_that_cannot_be_found_is_unreachable(fsget):
    result = fsget("-s", "a..b", "f")
    assert result.status == 5
    assert "a..b:2057 is not" in result.err

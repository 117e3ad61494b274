"""A server that lies, breaks off, or is none: nothing is left under the final name, and the reason is told."""

from __future__ import annotations

import http.server
import os
import re
import threading
import time

import pytest

from forkserver.client.local.partial import PIECE_BYTES

TRUNCATED = b'FS1 END truncated sent=%d message="the file became shorter while it was being sent"\n'


@pytest.fixture
def failing(fsget, lying_server, place):
    """Fetch ``big.log`` from a server with one script; gives the result after a look that nothing was left behind."""

    def run(script, *options):
        result = fsget("-s", lying_server(script).address, "--retries", "0", *options, "big.log")
        assert os.listdir(place) == []
        assert result.out == ""
        assert "Traceback" not in result.err
        return result

    return run


def test_a_wrong_digest_is_a_damaged_content(failing, says):
    result = failing([says.ask, says.header(5) + b"hellO" + says.end(b"hello")])
    assert result.status == 6
    assert result.err == (
        "fsget: big.log: the content arrived damaged: its sha256 is not the one the server sent (served by PID 4711)\n"
    )


def test_a_trailer_without_a_digest_is_not_believed(failing, says):
    result = failing([says.ask, says.header(5) + b"helloFS1 END ok\n"])
    assert result.status == 6
    assert result.err == (
        "fsget: big.log: the server sent no sha256 with the content, although it was asked for; the content is not "
        "kept (served by PID 4711)\n"
    )


def test_a_file_modified_meanwhile_is_told(failing, says):
    result = failing([says.ask, says.header(5) + b'helloFS1 END changed message="modified"\n'])
    assert result.status == 6
    assert result.err == "fsget: big.log: the file was modified while it was being sent (served by PID 4711)\n"


def test_a_file_that_became_shorter_is_told_by_the_early_trailer(failing, says):
    result = failing([says.ask, says.header(1000) + b"x" * 12 + TRUNCATED % 12])
    assert result.status == 6
    assert result.err == (
        "fsget: big.log: the file became shorter while it was being sent after 12 of 1,000 bytes (served by PID 4711)\n"
    )


def test_a_trailer_after_all_of_the_content_says_nothing_of_how_far_it_came(failing, says):
    for sent in (b"5", b"x", b"99"):
        result = failing([says.ask, says.header(5) + b"helloFS1 END draining sent=%s\n" % sent])
        assert (result.status, result.err) == (6, "fsget: big.log: the server is being stopped (served by PID 4711)\n")


def test_an_early_trailer_in_the_wrong_place_is_content_and_the_connection_lost(failing, says):
    result = failing([says.ask, says.header(1000) + b"x" * 12 + TRUNCATED % 13])
    assert result.status == 5
    assert "the connection was lost after " in result.err


def test_a_connection_closed_in_mid_content_tells_the_pid_and_how_far_it_came(failing, says):
    result = failing([says.ask, says.header(5678) + b"x" * 1234])
    assert result.status == 5
    assert result.err == ("fsget: big.log: the connection was lost after 1,234 of 5,678 bytes (served by PID 4711)\n")


def test_a_connection_closed_before_the_content_is_told_too(failing, says):
    result = failing([says.ask, says.header(5)])
    assert (result.status, "after 0 of 5 bytes (served by PID 4711)" in result.err) == (5, True)


def test_a_connection_closed_before_the_trailer_is_lost_although_all_bytes_came(failing, says):
    assert failing([says.ask, says.header(5) + b"hello"]).status == 5


def test_a_reset_in_mid_content_is_a_lost_connection(failing, says):
    assert failing([says.ask, says.header(5) + b"hel", says.reset]).status == 5


@pytest.mark.parametrize(
    "behind",
    [
        pytest.param(b", world" + b"FS1 END ok\n", id="then-a-trailer"),
        pytest.param(b", world", id="then-the-end-of-the-connection"),
        pytest.param(b"!", id="a-single-byte"),
        pytest.param(b"x" * 20_000, id="without-end"),
    ],
)
def test_more_content_than_was_promised_breaks_the_protocol(failing, says, behind):
    result = failing([says.ask, says.header(5) + b"hello" + behind])
    assert result.status == 6
    assert result.err == (
        "fsget: big.log: the server broke the protocol: it sent more content than it promised (served by PID 4711)\n"
    )


def test_less_content_than_the_file_has_is_not_all_of_it(failing, says):
    assert failing([says.ask, says.header(10, length=5) + b"hello" + says.end(b"hello")]).status == 6


def test_a_size_no_disk_has_is_refused_before_any_content(failing, says):
    result = failing([says.ask, says.header(2**62), says.hold])
    assert result.status == 7
    assert "local file " in result.err
    assert "4,611,686,018,427,387,904 bytes are needed" in result.err


def test_a_size_no_file_can_have_breaks_the_protocol(failing, says):
    result = failing([says.ask, says.header(10**19 - 1), says.hold])
    assert result.status == 6
    assert "a size no file can have" in result.err


ELSEWHERE = "; a forkserver's port is 2057 unless told otherwise\n"


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        pytest.param(["ask", b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"], "an HTTP server", id="http"),
        pytest.param([b"S", b"SH-2.0-OpenSSH_9.2p1\r\n"], "an SSH server", id="ssh"),
        pytest.param(["ask", b"\x15\x03\x01\x00\x02\x02\x32"], "a TLS server", id="tls"),
        pytest.param([b"220 mail.example ESMTP Postfix\r\n", "hold"], "a mail server", id="smtp"),
    ],
)
def test_a_server_of_another_kind_is_told_by_what_it_says(failing, says, script, kind):
    result = failing([step if isinstance(step, bytes) else getattr(says, step) for step in script])
    assert result.status == 5
    assert result.err.endswith(f" does not speak the forkserver protocol, but looks like {kind}{ELSEWHERE}")


def test_a_server_of_another_kind_that_waits_for_more_is_told_after_the_timeout(failing, says):
    result = failing([says.ask, b"\x15\x03\x01", says.hold], "--timeout", "0.2")
    assert result.status == 5
    assert result.err.endswith(f" sent nothing for 0.2 s, but looks like a TLS server{ELSEWHERE}")


def test_a_web_server_is_told_from_a_forkserver(fsget):
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        result = fsget("-s", f"127.0.0.1:{server.server_port}", "f")
        server.shutdown()
        thread.join()
    assert result.status == 5
    assert "looks like an HTTP server" in result.err


@pytest.mark.parametrize(
    "garbage",
    [
        pytest.param(bytes(range(256)), id="bytes"),
        pytest.param(b"x" * 100_000, id="endless-line"),
        pytest.param(b"FS1 200 ok\n", id="no-pid"),
        pytest.param(b"FS1 200 ok pid=-1 start=0.0 length=0\n", id="negative-pid"),
        pytest.param(b"FS1 299 fine pid=1 start=0.0\n", id="unknown-status"),
        pytest.param(b"FS1 40", id="cut-off"),
    ],
)
def test_garbage_is_no_forkserver(failing, says, garbage):
    result = failing([says.ask, garbage])
    assert result.status == 5
    assert result.err.endswith(f" does not speak the forkserver protocol{ELSEWHERE}")


def test_a_second_answer_nobody_asked_for_is_no_bug_of_ours(fsget, lying_server, says):
    server = lying_server([says.ask, says.not_found * 2 + says.header(9) + b"x", says.hold])
    result = fsget("-s", server.address, "--timeout", "0.2", "--retries", "0", "a", "b", "c")
    assert result.status == 5
    assert "internal error" not in result.err


def test_silence_in_mid_content_ends_after_the_timeout(failing, says):
    result = failing([says.ask, says.header(9) + b"four", says.hold], "--timeout", "0.5")
    assert result.status == 5
    assert result.err.endswith(" sent nothing for 0.5 s after 4 of 9 bytes (served by PID 4711)\n")


def test_a_server_that_trickles_is_given_up(fsget, lying_server, says, place):
    def trickle():
        yield says.ask
        yield says.header(5000)
        for _ in range(100):
            yield b"x"
            time.sleep(0.1)

    server = lying_server(trickle())
    started = time.monotonic()
    result = fsget("-s", server.address, "--timeout", "0.5", "--retries", "0", "f")
    assert result.status == 5
    assert re.search(r"sent only \d+ bytes in [01] s", result.err)
    assert time.monotonic() - started < 5
    assert os.listdir(place) == []


def test_a_listing_that_trickles_is_given_up(fsget, lying_server, says):
    def trickle():
        yield says.ask
        yield says.directory
        for _ in range(100):
            yield says.entry[:2]
            time.sleep(0.1)

    server = lying_server(trickle())
    result = fsget("-s", server.address, "--timeout", "0.5", "--retries", "0", "--list", "/")
    assert result.status == 5
    assert "sent only" in result.err


def test_a_server_that_never_answers_ends_after_the_timeout(failing, says):
    result = failing([says.hold], "--timeout", "0.2")
    assert result.status == 5
    assert result.err.endswith(f" sent nothing for 0.2 s: perhaps it is full{ELSEWHERE}")


def test_standard_output_gets_nothing_of_a_damaged_piece(fsget, lying_server, says):
    good, bad = os.urandom(PIECE_BYTES), b"damaged"
    size = len(good) + len(bad)
    first = says.header(size) + good + says.end(good)
    second = says.header(size, offset=PIECE_BYTES) + bad + says.end(b"what it was")
    server = lying_server([says.ask, first, says.ask, second])
    result = fsget("-s", server.address, "-o", "-", "f")
    assert (result.status, result.output == good) == (6, True)
    assert "damaged" in result.err

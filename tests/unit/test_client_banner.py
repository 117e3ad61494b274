"""What other servers say first, and what a person reads about them."""

from __future__ import annotations

import pytest

from forkserver.client.remote.banner import advice
from forkserver.protocol.messages import DEFAULT_PORT


@pytest.mark.parametrize(
    ("first", "kind"),
    [
        (b"HTTP/1.0 400 Bad Request\r\n", "an HTTP server"),
        (b"<!DOCTYPE HTML>\n<html>", "an HTTP server"),
        (b"\r\n<html lang=en>", "an HTTP server"),
        (b"SSH-2.0-dropbear\r\n", "an SSH server"),
        (b"\x15\x03\x03\x00\x02\x02\x28", "a TLS server"),
        (b"220 (vsFTPd 3.0.3)\r\n", "an FTP server"),
        (b"220-ProFTPD Server ready\r\n", "an FTP server"),
        (b"220 mx.example ESMTP Exim 4.96\r\n", "a mail server"),
        (b"+OK Dovecot ready.\r\n", "a mail server"),
        (b"* OK IMAP4rev1\r\n", "a mail server"),
        (b"421 try again\r\n", "a mail or FTP server"),
    ],
)
def test_a_server_is_known_by_its_first_bytes(first, kind):
    assert advice(first, 8080) == f", but looks like {kind}; a forkserver's port is 2057 unless told otherwise"


@pytest.mark.parametrize("first", [b"FS2 200 ok\n", b"200", b"hypertext HTTP/1.1", b"\x00\xff", b"4711file-exists"])
def test_what_is_not_known_is_not_guessed(first):
    assert advice(first, 8080) == "; a forkserver's port is 2057 unless told otherwise"


def test_silence_at_the_right_port_is_no_sign_of_a_wrong_one():
    assert advice(b"", DEFAULT_PORT) == ""
    assert advice(b"", 8080) == "; a forkserver's port is 2057 unless told otherwise"


def test_the_usual_port_is_not_advised_to_who_asked_there():
    assert advice(b"SSH-2.0-x\r\n", DEFAULT_PORT).endswith("; ask whoever runs the forkserver for its port")

"""Servers and names, as written on the command line."""

from __future__ import annotations

import pytest

from forkserver.client.remote.address import Address, Location, local_name, parse_location, parse_server

HERE = Address("here", 1)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("files.example", "files.example", 2057),
        ("files.example:80", "files.example", 80),
        ("127.0.0.1:65535", "127.0.0.1", 65535),
        ("::1", "::1", 2057),
        ("fe80::1%eth0", "fe80::1%eth0", 2057),
        ("[::1]", "::1", 2057),
        ("[::1]:80", "::1", 80),
    ],
)
def test_a_server_is_a_host_and_perhaps_a_port(text, host, port):
    assert parse_server(text) == (host, port)
    assert parse_server(str(parse_server(text))) == (host, port)


@pytest.mark.parametrize(
    "text",
    ["", ":80", "a:", "a:0", "a:65536", "a:x", "a:-1", "a:٣", "[::1", "[]", "[::1]80", "a b", "u@h", "h/x", "a\x1b"],
)
def test_what_is_no_server_is_refused(text):
    with pytest.raises(ValueError, match=r"a server is|a port is|an IPv6 address is"):
        parse_server(text)


@pytest.mark.parametrize(
    ("written", "name"),
    [
        (b"a", b"/a"),
        (b"/a", b"/a"),
        (b"//a", b"//a"),
        (b"a/", b"/a/"),
        (b"100%25", b"/100%25"),
        (b"\xff", b"/\xff"),
        (b"../x", b"/../x"),
    ],
)
def test_a_plain_name_gets_one_leading_slash_and_nothing_is_decoded(written, name):
    assert parse_location(written, HERE) == Location((HERE,), name, written)


@pytest.mark.parametrize(
    ("written", "server", "name"),
    [
        (b"fs://h/a%20b", ("h", 2057), b"/a b"),
        (b"fs://h:1/%C3%BC\xff", ("h", 1), b"/\xc3\xbc\xff"),
        (b"fs://[::1]:1//a", ("::1", 1), b"//a"),
        (b"fs://h/", ("h", 2057), b"/"),
        (b"fs://h:1", ("h", 1), b"/"),
        (b"FS://h/a", ("h", 2057), b"/a"),
        (b"Fs://h/a\nb", ("h", 2057), b"/a\nb"),
    ],
)
def test_an_fs_address_is_decoded(written, server, name):
    assert parse_location(written, HERE)[:2] == ((server,), name)


@pytest.mark.parametrize(
    "written", [b"", b"fs://", b"fs:///a", b"http://h/a", b"fs://h/%", b"fs://h/%0g", b"fs://h:x/a", b"x" * 8192]
)
def test_a_name_that_cannot_be_asked_for_is_refused(written):
    with pytest.raises(ValueError, match=r"\w"):
        parse_location(written, HERE)


def located(name: bytes) -> Location:
    return Location((HERE,), name, b"as written")


def test_the_local_name_is_the_last_component():
    assert local_name(located(b"/a/b/c")) == b"c"


@pytest.mark.parametrize("name", [b"/", b"/a/", b"/.", b"/a/..", b"/a\0b"])
def test_a_name_that_would_leave_the_directory_is_refused(name):
    with pytest.raises(ValueError, match="this names no file"):
        local_name(located(name))


@pytest.mark.parametrize(
    ("shown", "written"),
    [
        (b"a", b"a b"),
        (b"/a", b"/a b"),
        (b"/", b"a b"),
        (b"fs://h:1/a", b"fs://h:1/a%20b"),
        (b"FS://h", b"FS://h/a%20b"),
    ],
)
def test_a_name_of_a_directory_is_shown_the_way_the_directory_was_written(shown, written):
    assert parse_location(shown, HERE).written(b"/a b") == written

"""Listening addresses: every form there is, and a sentence for every form there is not."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forkserver.supervisor import address


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1", "127.0.0.1", 2057),
        ("127.0.0.1:80", "127.0.0.1", 80),
        ("127.0.0.1:0", "127.0.0.1", 0),
        ("127.0.0.1:65535", "127.0.0.1", 65535),
        ("0.0.0.0", "0.0.0.0", 2057),
        ("localhost", "localhost", 2057),
        ("Files.Example.org:81", "files.example.org", 81),
        ("my_host-2", "my_host-2", 2057),
        ("::", "::", 2057),
        ("::1", "::1", 2057),
        ("[::1]", "::1", 2057),
        ("[::1]:80", "::1", 80),
        ("[0:0:0:0:0:0:0:1]:80", "::1", 80),
        ("::1:80", "::1:80", 2057),
        ("2001:DB8::1", "2001:db8::1", 2057),
        ("fe80::1%eth0", "fe80::1%eth0", 2057),
        ("[fe80::1%eth0]:80", "fe80::1%eth0", 80),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.1", 2057),
    ],
)
def test_forms(text: str, host: str, port: int) -> None:
    # ipaddress prints mapped addresses in one of two ways, by its version.
    parsed_host, parsed_port = address.parse(text, 2057)
    assert parsed_port == port
    if "." in host and ":" in host:
        assert socket.inet_pton(socket.AF_INET6, parsed_host) == socket.inet_pton(socket.AF_INET6, host)
    else:
        assert parsed_host == host


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "there is no host"),
        (":80", "there is no host"),
        ("127.0.0.1:", "the port must be"),
        ("127.0.0.1:65536", "the port must be"),
        ("127.0.0.1:-1", "the port must be"),
        ("127.0.0.1:+1", "the port must be"),
        ("127.0.0.1: 1", "the port must be"),
        ("127.0.0.1:http", "the port must be"),
        ("127.0.0.1:\u0668\u0660", "the port must be"),
        ("127.0.0.1:" + "9" * 5000, "the port must be"),
        ("127.0.0.256", "not an IPv4 address"),
        ("127.1", "not an IPv4 address"),
        ("010.0.0.1", "not an IPv4 address"),
        ("2057", "not an IPv4 address"),
        ("::g", "not an IPv6 address"),
        ("1:2:3", "not an IPv6 address"),
        ("[127.0.0.1]:80", "not an IPv6 address"),
        ("::%]", "the zone after the %"),
        ("fe80::1%", "the zone after the %"),
        ("fe80::1%a b", "the zone after the %"),
        ("[]", "not an IPv6 address"),
        ("[::1", "the brackets"),
        ("[::1]80", "the brackets"),
        ("[::1]:", "the port must be"),
        ("http://x", "the port must be"),
        ("a b", "a host name has"),
        ("b\u00fccher.example", "a host name has"),
        ("*", "a host name has"),
        ("-x", "a host name has"),
        ("x\n", "a host name has"),
    ],
)
def test_bad_forms_are_refused_with_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        address.parse(text, 2057)


@given(st.text(alphabet=st.sampled_from("0123456789abcdefgx.:[]%-_ \n\0\u00fc"), max_size=40))
def test_any_text_is_an_address_or_a_value_error(text: str) -> None:
    try:
        host, port = address.parse(text, 2057)
    except ValueError as error:
        assert "\n" not in str(error)
    else:
        assert host
        assert 0 <= port <= 65535
        bracketed = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        assert address.parse(bracketed, 1) == (host, port)

"""A name that does not exist, and names close to it: asked back within half a second, whatever the server does."""

from __future__ import annotations

import functools
import itertools
import time

import pytest

MISSING = "fsget: {}: does not exist on the server (asked PID 4711)\n"


def listing(*names: bytes) -> list[bytes]:
    entries = [b"file %s size=1 mtime=1624000000.000000000 mode=644 etag=e-1\n" % name for name in names]
    return [*entries, b"FS1 END ok entries=%d\n" % len(names)]


@pytest.fixture
def missing(fsget, lying_server, says):
    """A server that has no name asked for, and answers the next connection with a listing: its address, and fetch."""

    def start(listed):
        server = lying_server([says.ask, says.not_found], [says.ask, says.directory, *listed])
        return server.address, functools.partial(fsget, "-s", server.address)

    return start


@pytest.mark.parametrize(
    ("asked", "there", "suggested"),
    [
        ("reports/tax.pfd", b"/reports/tax.pdf", "reports/tax.pdf"),
        ("taxlaw.pdf", b"/tax%20law.pdf", "tax law.pdf"),
        ("/README", b"/readme", "/readme"),
        ("fs://SERVER/taxlaw.pdf", b"/tax%20law.pdf", "fs://SERVER/tax%20law.pdf"),
        ("evil.txt", b"/evil%1B%07.txt", "evil\\x1b\\x07.txt"),
    ],
)
def test_a_close_name_is_suggested_as_it_would_be_written(missing, asked, there, suggested):
    address, fetch = missing(listing(there))
    asked, suggested = asked.replace("SERVER", address), suggested.replace("SERVER", address)
    result = fetch(asked)
    assert result.status == 3
    assert result.err == MISSING.format(asked) + f'fsget: did you mean "{suggested}"?\n'


def test_several_are_suggested_at_once(missing):
    _, fetch = missing(listing(b"/taxi", b"/taxes", b"/tax"))
    result = fetch("--list", "taxs")
    assert result.err.endswith('fsget: did you mean "taxes", "tax" or "taxi"?\n')


@pytest.mark.parametrize("option", ["--json", "-q"])
def test_programs_are_not_asked_back(fsget, lying_server, says, option):
    server = lying_server([says.ask, says.not_found], [says.ask, says.directory, *listing(b"/tax")])
    result = fsget("-s", server.address, option, "taxx")
    assert result.err == MISSING.format("taxx")
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "script",
    [
        pytest.param([b"FS1 503 busy pid=1 start=0.0\n"], id="busy"),
        pytest.param([b"garbage\n"], id="garbage"),
        pytest.param(["ask", "directory", *listing(b"/elsewhere/../tax")], id="a-lie"),
        pytest.param(["ask", "directory", *listing(b"/tax")[:1]], id="broken-off-before-its-end"),
        pytest.param(["hold"], id="silent"),
    ],
)
def test_a_server_that_does_not_list_is_not_complained_of(fsget, lying_server, says, script):
    script = [step if isinstance(step, bytes) else getattr(says, step) for step in script]
    server = lying_server([says.ask, says.not_found], script)
    assert fsget("-s", server.address, "taxx").err == MISSING.format("taxx")


def test_a_listing_without_end_is_read_only_so_far(fsget, lying_server, says):
    page = b"".join(listing(*(b"/other-%d" % number for number in range(500)))[:-1])
    endless = itertools.chain(listing(b"/tax")[:1], itertools.repeat(page))
    server = lying_server([says.ask, says.not_found], itertools.chain([says.ask, says.directory], endless))
    started = time.monotonic()
    result = fsget("-s", server.address, "taxx")
    assert result.err == MISSING.format("taxx") + 'fsget: did you mean "tax"?\n'
    assert time.monotonic() - started < 5


def test_names_that_take_long_to_compare_are_given_up(fsget, lying_server, says):
    # The time that a comparison takes grows with the square of the length.
    asked = "ab" * 99
    server = lying_server([says.ask, says.not_found], [says.ask, says.directory, *listing(*[b"/" + b"ba" * 98] * 1900)])
    started = time.monotonic()
    assert fsget("-s", server.address, asked).err == MISSING.format(asked)
    assert time.monotonic() - started < 5


def test_a_listing_that_trickles_is_waited_for_only_so_long_in_a_whole_run(fsget, lying_server, says):
    def trickle():
        yield from (says.ask, says.directory)
        for byte in itertools.cycle(b"file /tax size=1 "):
            time.sleep(0.05)
            yield bytes([byte])

    names = [f"d{number}/tax{number}" for number in range(20)]
    server = lying_server([says.ask, says.not_found] * 20, trickle())
    started = time.monotonic()
    result = fsget("-s", server.address, *names)
    assert result.err == "".join(map(MISSING.format, names))
    assert time.monotonic() - started < 5

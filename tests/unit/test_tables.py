"""The shared table as its reader finds it: whole, torn, of another version, or with what a hostile child wrote."""

from __future__ import annotations

import fcntl
import json
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forkserver.ipc.account import request_under_way
from forkserver.ipc.slots import HEADER_BYTES, ROW_BYTES, SlotTable
from forkserver.logline import MAX_LINE_BYTES, Log
from forkserver.protocol.native import encode_name
from forkserver.supervisor.sharedtables import OrphanTables, SharedTable, log_cut_connections

ROWS = 5
PEER = "192.0.2.7:41098"


@pytest.fixture
def written() -> Iterator[SlotTable]:
    table = SlotTable(ROWS)
    yield table
    table.close_file()


def read(written: SlotTable) -> SharedTable:
    return SharedTable(os.dup(written.fd), "table-1-1")


def child(written: SlotTable, index: int, pid: int, peer: str = PEER):
    slot = written.slot(index)
    slot.clear()
    slot.begin(pid, 1_795_402_431_254_932, 5.0)
    slot.take(1, peer)
    return slot


@contextmanager
def memfd(content: bytes, seals: int = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW) -> Iterator[int]:
    fd = os.memfd_create("hostile", os.MFD_ALLOW_SEALING)
    os.write(fd, content)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    yield fd
    os.close(fd)


def content_of(written: SlotTable) -> bytearray:
    return bytearray(os.pread(written.fd, os.fstat(written.fd).st_size, 0))


def logged(tables: list[tuple[str, int]], form: str = "plain") -> list[str]:
    log_fd = os.memfd_create("log")
    log_cut_connections(tables, Log(log_fd, form=form))
    lines = os.pread(log_fd, 1 << 20, 0).decode("ascii").splitlines()
    os.close(log_fd)
    return lines


def test_a_row_has_what_its_child_wrote(written):
    slot = child(written, 3, 4711)
    slot.begin_request("GET", b"/tax law.pdf")
    slot.count_sent(17)
    table = read(written)
    ((index, found),) = table.rows()
    assert (index, found.pid, found.peer, found.request, found.path) == (3, 4711, PEER, "GET", "/tax%20law.pdf")
    assert (found.connections, found.connected, found.sent_bytes) == (1, True, 17)
    slot.end_request()
    slot.leave()
    ((_, found),) = table.rows()
    assert (found.peer, found.request, found.path, found.connected) == (PEER, "-", "-", False)
    table.free(3)
    assert slot.pid == 0
    assert list(table.rows()) == []


def test_rows_of_many_blocks_are_found():
    written = SlotTable(1000)
    for index in (0, 127, 128, 999):
        child(written, index, 1000 + index)
    table = read(written)
    assert [index for index, _ in table.rows()] == [0, 127, 128, 999]
    assert {pid: index for pid, (index, _) in table.find({1000, 1128, 7}).items()} == {1000: 0, 1128: 128}
    written.close_file()


def test_a_path_that_is_too_long_is_cut_and_marked_and_a_shorter_one_is_not(written):
    slot = child(written, 0, 4711)
    for length in (256, 257, 8000):
        slot.begin_request("GET", b"/" * length)
        assert slot.path == "/" * 256 + ("..." if length > 256 else "")
        slot.end_request()


@pytest.mark.parametrize("step", range(6))
def test_a_row_whose_child_was_killed_between_two_steps_says_nothing_wrong(written, step):
    slot = child(written, 0, 4711)
    slot.begin_request("GET", b"/first/and/longest")
    slot.end_request()
    slot.leave()
    steps = (
        lambda: slot.take(2, "[2001:db8::1]:5"),
        lambda: slot.begin_request("STAT", b"/second"),
        lambda: slot.count_sent(3),
        slot.end_request,
        slot.leave,
    )
    for act in steps[:step]:
        act()
    ((_, found),) = read(written).rows()
    assert (found.peer, found.connected) == (("[2001:db8::1]:5", step < 5) if step else (PEER, False))
    assert (found.request, found.path) == (("STAT", "/second") if step in {2, 3} else ("-", "-"))


def test_the_size_of_a_table_cannot_be_changed(written):
    for size in (0, 1 << 20):
        with pytest.raises(PermissionError):
            os.ftruncate(written.fd, size)


def header(written: SlotTable, word: int, value: int) -> bytes:
    content = content_of(written)
    content[word * 8 : word * 8 + 8] = value.to_bytes(8, "little")
    return bytes(content)


@pytest.mark.parametrize(
    ("word", "value"),
    [
        (0, 0),
        (1, 2),
        (2, 0),
        (2, ROWS + 1),
        (2, 2**64 - 1),
        (3, 0),
        (3, ROW_BYTES - 8),
        (3, ROW_BYTES + 8),
        (3, 2**63),
        (4, 0),
        (4, 8),
        (4, 2**64 - 512),
    ],
)
def test_a_header_that_is_of_another_format_or_does_not_fit_the_size_is_refused(written, word, value):
    with memfd(header(written, word, value)) as fd, pytest.raises(ValueError, match="the table"):
        SharedTable(fd, "table-1-1")


def test_what_is_no_sealed_memory_is_refused(written, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(content_of(written))
    read_fd, write_fd = os.pipe()
    file_fd = os.open(path, os.O_RDWR)
    for fd in (read_fd, file_fd):
        with pytest.raises(ValueError, match="the file is no table"):
            SharedTable(fd, "table-1-1")
    for fd in (read_fd, write_fd, file_fd):
        os.close(fd)
    with memfd(bytes(content_of(written)), 0) as fd, pytest.raises(ValueError, match="sealed"):
        SharedTable(fd, "table-1-1")


def test_a_table_with_longer_rows_of_the_same_format_is_read(written):
    child(written, 4, 4711)
    content = content_of(written)
    first_row = len(content) - ROWS * ROW_BYTES
    rows = [content[first_row + each * ROW_BYTES :][:ROW_BYTES] + b"\xff" * 512 for each in range(ROWS)]
    content[24:32] = (2 * ROW_BYTES).to_bytes(8, "little")
    with memfd(bytes(content[:first_row] + b"".join(rows))) as fd:
        ((index, found),) = SharedTable(fd, "table-1-1").rows()
    assert (index, found.pid, found.peer) == (4, 4711, PEER)


HOSTILE = st.lists(st.one_of(st.binary(max_size=ROW_BYTES), st.just(b"\xff" * ROW_BYTES)), min_size=ROWS, max_size=ROWS)
PIDS = st.lists(st.sampled_from([0, 1, 4711, 1 << 22, (1 << 22) + 1, 2**64 - 1]), min_size=ROWS, max_size=ROWS)


@given(rows=HOSTILE, pids=PIDS, form=st.sampled_from(["plain", "json", "journal", "syslog"]))
def test_whatever_children_write_gives_at_most_a_sound_line_for_each_row(rows, pids, form):
    written = SlotTable(ROWS)
    content = content_of(written)
    first_row = len(content) - ROWS * ROW_BYTES
    for number, (row, pid) in enumerate(zip(rows, pids, strict=True)):
        whole = bytearray(row.ljust(ROW_BYTES, b"\0"))
        whole[48:56] = pid.to_bytes(8, "little")
        content[first_row + number * ROW_BYTES : first_row + (number + 1) * ROW_BYTES] = whole
    os.pwrite(written.fd, content, 0)
    lines = logged([("table-1-1", os.dup(written.fd))], form)
    written.close_file()
    assert len(lines) <= sum(0 < pid <= 1 << 22 for pid in pids)
    for line in lines:
        assert len(line) < MAX_LINE_BYTES
        assert line.isprintable()
        if form == "json":
            event = json.loads(line)
            assert (event["verb"], event["cause"]) == ("died", "server-died")
            assert {type(event[name]) for name in ("sent", "connections", "requests")} == {int}
            assert max(event[name] for name in ("sent", "connections", "requests")) < 2**63
            assert event["request"] in {None, "GET", "STAT", "LIST", "PING"}


@given(content=st.binary(max_size=HEADER_BYTES + 2 * ROW_BYTES))
def test_a_file_of_anything_costs_a_warning_at_most(content):
    with memfd(content) as fd:
        lines = logged([("table-1-1", os.dup(fd))])
    assert [line.split()[2] for line in lines] in ([], ["warning"])


@given(name=st.binary(max_size=600), verb=st.sampled_from(["GET", "STAT", "LIST"]))
def test_any_name_comes_back_encoded_or_cut(name, verb):
    written = SlotTable(1)
    slot = child(written, 0, 4711)
    slot.begin_request(verb, name)
    fields = request_under_way(slot)
    written.close_file()
    assert fields["request"] == verb
    assert fields["path"] == (encode_name(name[:256]) or "-") + ("..." if len(name) > 256 else "")


def test_only_connections_that_were_cut_are_told(written):
    child(written, 0, 100).begin_request("GET", b"/cut")
    child(written, 1, 101).leave()
    child(written, 2, 102).free()
    written.slot(3).begin(103, 1, 5.0)
    lines = logged([("table-1-1", os.dup(written.fd))])
    (line,) = lines
    assert line.split(" ", 2)[2] == (
        "died pid=100 cause=server-died start=1795402431.254932 peer=192.0.2.7:41098 connections=1 requests=0 sent=0 "
        "wall_ms=- cpu_ms=- maxrss_kib=- request=GET path=/cut"
    )


def test_a_table_is_kept_until_the_last_orphan_is_reaped(written):
    tables = OrphanTables()
    for index in range(2):
        child(written, index, 100 + index)
    table = read(written)
    tables.add(table, {100, 101, 102})
    assert tables.pids == {100, 101, 102}
    slot, served = tables.remove(100)
    assert slot
    assert (slot.peer, served) == (PEER, 1)
    assert written.slot(0).pid == 0, "it is not told again"
    assert tables.remove(100) == (None, 0)
    assert tables.remove(102) == (None, 0), "it had not come so far as to have a row"
    written.slot(1).leave()
    written.slot(1).take(2, PEER)
    assert tables.tables == [table]
    assert tables.remove(101)[1] == 2, "its master had not counted the first one, which was open when it died"
    assert tables.tables == []
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(table.fd)


def test_a_table_without_orphans_is_not_kept(written):
    tables = OrphanTables()
    table = read(written)
    tables.add(table, set())
    assert tables.tables == []
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(table.fd)


def test_a_row_lies_on_one_page():
    written = SlotTable(256)
    size = os.fstat(written.fd).st_size
    written.close_file()
    assert mmap.PAGESIZE % ROW_BYTES == 0
    assert size % ROW_BYTES == 0

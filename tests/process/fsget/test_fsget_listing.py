"""``--stat`` and ``--list``."""

from __future__ import annotations

import subprocess

FILE = b"file /reports/tax%20law.pdf size=73400320 mtime=1624000000.000000000 mode=644 etag=e-1\n"
EVIL = b"dir /reports/%1B%5D0;owned%07%FF mtime=1624000000.000000000 mode=755 link=1\n"
CLOSED = b"dir /reports/private mtime=1624000000.000000000 mode=700 error=forbidden\n"


def test_a_listing_has_a_line_an_entry_with_names_made_harmless(fsget, lying_server, says):
    server = lying_server([says.ask, says.directory + FILE + EVIL + b"FS1 END ok entries=2\n"])
    result = fsget("-s", server.address, "--list", "reports/")
    assert (result.status, result.err) == (0, "")
    assert result.out == (
        "-rw-r--r--      73,400,320 2021-06-18 07:06:40 reports/tax law.pdf\n"
        "drwxr-xr-x               - 2021-06-18 07:06:40 reports/\\x1b]0;owned\\x07\\xff/ (link)\n"
    )
    assert server.requests == [b"LIST /reports\n"]


def test_without_a_name_the_root_is_listed(fsget, lying_server, says):
    server = lying_server([says.ask, says.directory + FILE + b"FS1 END ok entries=1\n"])
    assert fsget("-s", server.address, "--list", "-r").status == 0
    assert server.requests == [b"LIST / recursive=1\n"]


def test_a_server_without_a_path_means_its_root(fsget, lying_server, says):
    server = lying_server([says.ask, says.directory + b"FS1 END ok entries=0\n"])
    assert fsget("--list", f"FS://{server.address}").status == 0
    assert server.requests == [b"LIST /\n"]


def test_a_listing_as_json_has_an_object_an_entry(fsget, lying_server, says):
    server = lying_server([says.ask, says.directory + FILE + EVIL + b"FS1 END ok entries=2\n"])
    file, directory = fsget("-s", server.address, "--json", "--list", "reports").objects
    assert file == {
        "name": "/reports/tax law.pdf",
        "status": "ok",
        "pid": 4711,
        "start": "1763860000.123456",
        "type": "file",
        "size": 73400320,
        "mtime": "1624000000.000000000",
        "mode": "644",
        "etag": "e-1",
    }
    assert (directory["name"], directory["link"]) == ("/reports/\x1b]0;owned\x07\udcff", True)


def test_a_directory_that_could_not_be_read_is_shown_and_makes_the_run_a_failure(fsget, lying_server, says):
    server = lying_server([says.ask, says.directory + CLOSED + FILE + b"FS1 END ok entries=2\n"])
    result = fsget("-s", server.address, "--list", "-r", "reports")
    assert result.status == 4
    assert " reports/private/ [forbidden]\n" in result.out
    assert len(result.out.splitlines()) == 2


def test_an_entry_that_leads_elsewhere_is_refused(fsget, lying_server, says):
    for name in (b"/reports/../etc/passwd", b"/etc/passwd", b"/reports/%2E/x", b"/reports//x", b"/reports/a%00b"):
        entry = FILE.replace(b"/reports/tax%20law.pdf", name)
        server = lying_server([says.ask, says.directory + entry + b"FS1 END ok entries=1\n"])
        result = fsget("-s", server.address, "--list", "reports")
        assert (result.status, result.out) == (6, "")
        assert "it listed a name that is not in the directory" in result.err


def test_a_listing_that_is_not_complete_is_told(fsget, lying_server, says):
    for end, status in (
        (b'FS1 END read-error message="x"\n', 6),
        (b"FS1 END ok entries=2\n", 6),
        (b"FS1 END ok\n", 6),
        (b"", 5),
    ):
        server = lying_server([says.ask, says.directory + FILE + end])
        result = fsget("-s", server.address, "--list", "reports")
        assert result.status == status
        assert result.out.endswith(" reports/tax law.pdf\n")
        assert result.err.endswith(" (served by PID 4711)\n")


def test_a_file_is_no_directory(fsget, lying_server, says):
    server = lying_server([says.ask, b'FS1 405 not-a-directory %s message="is not a directory"\n' % says.who])
    result = fsget("-s", server.address, "--list", "f")
    assert (result.status, result.err) == (4, "fsget: f: is not a directory (asked PID 4711)\n")


def test_a_reader_that_has_enough_ends_the_listing_quietly(begin, lying_server, says):
    server = lying_server([says.ask, says.directory, *[FILE * 1000] * 100])
    process = begin("-s", server.address, "--list", "reports", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 141


def test_stat_tells_about_a_file_and_a_directory(fsget, lying_server, says):
    file = says.header(13).replace(b" offset=0 length=13", b"")
    server = lying_server([says.ask, file, says.ask, says.directory])
    result = fsget("-s", server.address, "--stat", "f", "reports")
    assert result.out == (
        "f: 13 bytes, modified 2021-06-18 07:06:40, -rw-r--r--, etag e-1, served by PID 4711\n"
        "reports: directory, modified 2021-06-18 07:06:40, drwxr-xr-x, served by PID 4711\n"
    )
    assert server.requests == [b"STAT /f\n", b"STAT /reports\n"]

"""Files fetched as they should be, and how the user is told."""

from __future__ import annotations

import hashlib
import os
import socket
import stat

import pytest

CONTENT = b"All of it, \x00 to \xff.\n" * 1000


def test_a_file_arrives_whole_with_its_time_and_the_pid_that_served_it(fsget, lying_server, says, place):
    server = lying_server(says.file(CONTENT))
    result = fsget("-s", server.address, "reports/taxLaw.pdf")
    assert (result.status, result.err) == (0, "")
    assert result.out.startswith("reports/taxLaw.pdf: 19,000 bytes, sha256 verified, 0.")
    assert result.out.endswith(" s, served by PID 4711\n")
    assert server.requests == [b"GET /reports/taxLaw.pdf length=4194304 digest=sha256\n"]
    file = place / "taxLaw.pdf"
    assert file.read_bytes() == CONTENT
    assert file.stat().st_mtime_ns == 1624000000 * 10**9
    assert os.listdir(place) == ["taxLaw.pdf"]


def test_a_new_file_has_the_permissions_the_umask_leaves(fsget, lying_server, says, place):
    server = lying_server(says.file(b"x"))
    fsget("-s", server.address, "f", umask=0o027)
    assert stat.S_IMODE((place / "f").stat().st_mode) == 0o640


def test_several_files_of_one_run_come_over_one_connection(fsget, lying_server, says, place):
    server = lying_server([*says.file(b"one"), *says.file(b""), *says.file(b"three")])
    result = fsget("-s", server.address, "a", "b", "c")
    assert result.status == 0
    assert [(place / name).read_bytes() for name in "abc"] == [b"one", b"", b"three"]


def test_a_connection_closed_between_two_files_is_made_anew_without_a_retry(fsget, lying_server, says):
    server = lying_server(says.file(b"one"), says.file(b"two"))
    assert fsget("-s", server.address, "--retries", "0", "a", "b").status == 0
    assert server.requests[-1] == b"GET /b length=4194304 digest=sha256\n"


def test_a_missing_file_is_told_with_the_pid_and_does_not_keep_the_others_away(fsget, lying_server, says, place):
    server = lying_server([says.ask, says.not_found, *says.file(b"here")])
    result = fsget("-s", server.address, "nofile.pdf", "other")
    assert result.status == 3
    assert result.err == "fsget: nofile.pdf: does not exist on the server (asked PID 4711)\n"
    assert os.listdir(place) == ["other"]


def test_the_exit_status_is_that_of_the_worst_failure(fsget, lying_server, says):
    damaged = [says.ask, says.header(2) + b"xx" + says.end(b"xy")]
    server = lying_server([*damaged, says.ask, says.not_found])
    assert fsget("-s", server.address, "a", "b").status == 6


def test_a_refusal_says_why_in_the_servers_words(fsget, lying_server, says):
    server = lying_server([says.ask, b'FS1 409 not-a-file %s message="is a directory"\n' % says.who])
    result = fsget("-s", server.address, "reports")
    advice = "-r fetches it, --list shows what is in it"
    assert (result.status, result.err) == (4, f"fsget: reports: is a directory; {advice} (asked PID 4711)\n")


@pytest.mark.parametrize(("name", "asked"), [("reports/", "/reports"), ("/", "/"), ("fs://SERVER/", "/")])
def test_a_directory_named_with_a_slash_is_refused_as_one_without(fsget, lying_server, says, name, asked):
    for options in ((), ("-o", "x"), ("-o", "-")):
        server = lying_server([says.ask, says.directory])
        shown = name.replace("SERVER", server.address)
        result = fsget("-s", server.address, *options, shown)
        advice = "-r fetches it, --list shows what is in it"
        assert (result.status, result.err) == (4, f"fsget: {shown}: is a directory; {advice} (asked PID 4711)\n")
        assert server.requests == [f"STAT {asked}\n".encode()]


def test_a_file_named_with_a_slash_is_told_to_be_one(get, root):
    (root / "f").touch()
    result = get("f/", "none/")
    assert result.status == 4
    assert "fsget: f/: is a file and no directory; leave out the slash behind its name (asked PID " in result.err
    assert "fsget: none/: does not exist on the server (asked PID " in result.err


def test_a_directory_with_a_slash_in_a_list_does_not_keep_the_files_from_being_fetched(get, root, place):
    (root / "d").mkdir()
    for name in "ab":
        (root / name).touch()
    result = get("-i", "-", stdin=None, input=b"a\nd/\nb\n")
    assert (result.status, result.err.startswith("fsget: d/: is a directory; -r fetches it")) == (4, True)
    assert sorted(os.listdir(place)) == ["a", "b"]


def test_a_fifo_on_the_server_is_not_taken_for_a_directory(fsget, lying_server, says):
    server = lying_server([says.ask, b'FS1 409 not-a-file %s message="is no regular file"\n' % says.who])
    assert fsget("-s", server.address, "f").err == "fsget: f: is no regular file (asked PID 4711)\n"


def test_a_name_of_any_bytes_is_asked_for_and_shown_harmless(fsget, lying_server, says, place):
    server = lying_server(says.file(b"x"))
    name = b"\xff\x1b[31m \xe2\x80\xaeel%20if"
    result = fsget("-s", server.address, name)
    assert server.requests == [b"GET /%FF%1B%5B31m%20%E2%80%AEel%2520if length=4194304 digest=sha256\n"]
    assert result.out.startswith(r"\xff\x1b[31m \u202eel%20if: 1 byte")
    assert os.listdir(os.fsencode(place)) == [name]


def test_an_fs_address_names_server_and_percent_encoded_path(fsget, lying_server, says, place):
    server = lying_server(says.file(b"x"))
    assert fsget(f"fs://{server.address}/a%20dir/tax%20law").status == 0
    assert server.requests == [b"GET /a%20dir/tax%20law length=4194304 digest=sha256\n"]
    assert os.listdir(place) == ["tax law"]


def test_the_server_can_come_from_the_environment(fsget, lying_server, says, environment):
    server = lying_server(says.file(b"x"))
    assert fsget("f", env=environment | {"FSGET_SERVER": server.address}).status == 0


def test_an_ipv6_server_is_reached(fsget, lying_server, says):
    server = lying_server(says.file(b"x"), family=socket.AF_INET6)
    assert fsget("-s", server.address, "f").status == 0


def test_output_and_directory_choose_the_place(fsget, lying_server, says, place):
    (place / "sub").mkdir()
    server = lying_server(says.file(b"one"))
    result = fsget("-s", server.address, "-d", "sub", "-o", "mine", "theirs")
    assert result.status == 0
    assert result.out.startswith("theirs -> sub/mine: 3 bytes, ")
    assert (place / "sub" / "mine").read_bytes() == b"one"


def test_the_line_tells_where_a_file_went_unless_it_has_its_own_name_here(fsget, lying_server, says, place):
    (place / "evil\x1b").mkdir()
    for options, beginning in (
        (["-o", "x.txt", "sub/s.txt"], "sub/s.txt -> x.txt: 1 byte"),
        (["-o", "./s.txt", "sub/s.txt"], "sub/s.txt: 1 byte"),
        (["-d", ".", "sub/s.txt"], "sub/s.txt: 1 byte"),
        (["-d", "evil\x1b/", "s.txt"], "s.txt -> evil\\x1b/s.txt: 1 byte"),
    ):
        server = lying_server(says.file(b"x"))
        result = fsget("-s", server.address, *options)
        assert result.out.startswith(beginning)
        assert result.out.endswith(", served by PID 4711\n")


def test_standard_output_gets_the_bytes_and_standard_error_the_line(fsget, lying_server, says, place):
    server = lying_server(says.file(CONTENT))
    result = fsget("-s", server.address, "-o", "-", "f")
    assert (result.status, result.output) == (0, CONTENT)
    assert "sha256 verified" in result.err
    assert os.listdir(place) == []


def test_quiet_leaves_only_failures(fsget, lying_server, says):
    server = lying_server([*says.file(b"x"), says.ask, says.not_found])
    result = fsget("-s", server.address, "-q", "a", "b")
    assert result.out == ""
    assert result.err == "fsget: b: does not exist on the server (asked PID 4711)\n"


def test_json_is_one_object_a_file(fsget, lying_server, says):
    server = lying_server([*says.file(b"x"), says.ask, says.not_found])
    fetched, missing = fsget("-s", server.address, "--json", b"\xff\x7f", "b").objects
    assert isinstance(fetched.pop("seconds"), float)
    assert fetched == {
        "name": "\udcff\x7f",
        "status": "ok",
        "pid": 4711,
        "start": "1763860000.123456",
        "size": 1,
        "received": 1,
        "kept": 0,
        "digest": f"sha256:{hashlib.sha256(b'x').hexdigest()}",
        "pids": [4711],
        "servers": [server.address],
    }
    assert (missing["name"], missing["status"], missing["pid"]) == ("b", "not-found", 4711)
    assert missing["message"] == "does not exist on the server"


def test_a_reply_that_trickles_in_byte_by_byte_is_understood(fsget, lying_server, says, place):
    stream = says.header(5) + b"hello" + says.end(b"hello")
    server = lying_server([says.ask, *(bytes((byte,)) for byte in stream)])
    assert fsget("-s", server.address, "f").status == 0
    assert (place / "f").read_bytes() == b"hello"


def test_a_time_no_file_can_have_does_not_spoil_the_fetch(fsget, lying_server, says, place):
    server = lying_server([says.ask, says.header(1, mtime="9999999999999999999.000000000") + b"x" + says.end(b"x")])
    assert fsget("-s", server.address, "f").status == 0
    assert (place / "f").read_bytes() == b"x"

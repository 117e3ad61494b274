"""Command lines that are wrong are told what is right, with exit status 2, before anything is done."""

from __future__ import annotations

import pytest

from forkserver import __version__


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        ([], "name at least one file"),
        (["-o", "x", "a", "b"], "exactly one NAME"),
        (["-o", "x", "--stat", "a"], "exactly one NAME"),
        (["--stat", "--list"], "exclude each other"),
        (["-r", "--stat", "a"], "--recursive does not go with --stat"),
        (["-r", "-o", "x", "a"], "--output is for one file; where a tree goes, --directory says"),
        (["-s", "host:port", "a"], "'host:port': a port is a number"),
        (["-s", "127.0.0.1:", "a"], "'127.0.0.1:': a port is a number"),
        (["-s", "", "a"], ": the name is empty\n"),
        (["a", ""], "fsget: a name is empty\n"),
        (["http://h/x"], "http://h/x: only fs:// URLs are known"),
        (["fs:///x"], "fs:///x: no server between fs:// and /"),
        (["--timeout", "nan", "a"], "must be more than 0"),
        (["--timeout", "0", "a"], "must be more than 0"),
        (["--retries", "-1", "a"], "x>=0"),
        (["a/.."], "names no file"),
        (["a\x1b/.."], r"a\x1b/..: this names no file"),
        (["a/x", "b/x"], "the same local file"),
        (["x" * 9000], "too long"),
        (["--checksum", "sha256:abc", "a"], "must be sha256: and 64 hexadecimal digits, or these alone"),
        (["--checksum", "0" * 64, "a", "b"], "--checksum goes with fetching exactly one NAME"),
        (["--checksum", "0" * 64, "--stat", "a"], "--checksum goes with fetching exactly one NAME"),
        (["--checksum", "0" * 64, "-r", "a"], "--checksum goes with fetching exactly one NAME"),
        (["--checksum=", "a"], "must be sha256: and 64 hexadecimal digits, or these alone"),
        (["--checksum=abc", "a"], "must be sha256: and 64 hexadecimal digits, or these alone"),
        (["-c", "--stat", "a"], "--checksum (-c) goes with fetching"),
        (["--list", "--checksum", "a"], "--checksum (-c) goes with fetching"),
        (["--verify", "x", "-c"], "--checksum (-c) goes with fetching"),
        (["--verify", "x", "-r"], "--recursive does not go with --verify"),
        (["--manifest", "x"], "--manifest goes with fetching at least one NAME"),
        (["--manifest", "x", "-o", "-", "a"], "into a file"),
        (["--manifest", "x", "--list", "a"], "--manifest goes with fetching"),
        (["--verify", "x", "a"], "--verify takes no NAME"),
        (["--verify", "x", "--stat"], "--stat and --verify exclude each other"),
        (["--verify", "x", "--manifest", "y"], "--manifest goes with fetching"),
        (["--fsync", "all", "a"], "'none', 'file', 'dir'"),
        (["--nonsense"], "--nonsense"),
    ],
)
def test_a_wrong_command_line(fsget, arguments, remedy):
    result = fsget(*arguments)
    assert (result.status, result.out) == (2, "")
    assert remedy.replace("x>=0", "0<=x") in result.err


ADVICE = "fsget: try 'fsget --help' for help\n"
FORM = "a server is HOST, HOST:PORT or [IPV6]:PORT"
RESUMES = "fsget resumes by itself, the same command goes on where the last run ended"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "name at least one file, as in: fsget NAME"),
        (["-s", "http://h:80/x", "a"], f"--server: 'http://h:80/x': {FORM}, not a URL; write h:80"),
        (["-s", "h:1/", "a"], f"--server: 'h:1/': {FORM}, without a slash; write h:1"),
        (["-s", "h:x", "a"], f"--server: 'h:x': a port is a number from 1 to 65535; {FORM}"),
        (["--resume", "a"], f"--resume: there is no such option; {RESUMES}"),
        (["--continue", "a"], f"--continue: there is no such option; {RESUMES}"),
        (["-C", "-", "a"], f"-C: there is no such option; {RESUMES}"),
        (["-P", "dir", "a"], "-P: there is no such option; -d DIR says where to put files"),
        (["-av", "a"], "-a: there is no such option; -r fetches a directory with everything beneath"),
        (["--bwlimit=1M", "a"], "--bwlimit: there is no such option; --limit-rate RATE limits the bytes a second"),
        (["--recurse", "a"], "--recurse: there is no such option; did you mean --recursive?"),
        (["--dry", "a"], "--dry: there is no such option; did you mean --dry-run?"),
        (["-dash"], "name at least one file, as in: fsget NAME; {}: fsget -- -dash"),
        (["-xyz", "a"], "-x: there is no such option; {}: fsget -- -xyz"),
        (["--nonsense", "a"], "--nonsense: there is no such option; {}: fsget -- --nonsense"),
        (["-o"], "option '-o' requires an argument"),
        (["--json=1", "a"], "option '--json' does not take a value"),
        (["--fsync", "x", "a"], "--fsync: 'x' is not one of 'none', 'file', 'dir'"),
        (["--timeout", "x", "a"], "--timeout: 'x' is not a valid float"),
    ],
)
def test_what_is_wrong_is_one_line_with_the_prefix_of_all_lines(fsget, arguments, line):
    result = fsget(*arguments)
    assert result.status == 2
    assert result.err == f"fsget: {line.format('a name that begins with a dash goes behind --')}\n{ADVICE}"


def test_a_value_from_the_environment_is_told_to_be_from_there(fsget, environment):
    result = fsget("a", env=environment | {"FSGET_SERVER": "h:x"})
    assert result.err == f"fsget: FSGET_SERVER: 'h:x': a port is a number from 1 to 65535; {FORM}\n{ADVICE}"


def test_help_and_version_are_there(fsget):
    shown = fsget("--help")
    assert shown.status == 0
    assert "143: terminated" in shown.out
    assert fsget("--version").out == f"fsget {__version__}\n"


@pytest.mark.parametrize(
    ("redirect", "reason"), [(">/dev/full", "No space left on device"), (">&-", "Bad file descriptor")]
)
@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_that_cannot_be_written_is_one_line_and_a_local_failure(fsget, option, redirect, reason):
    result = fsget(option, first=f"exec {redirect}")
    assert (result.status, result.err) == (7, f"fsget: standard output: {reason}\n")

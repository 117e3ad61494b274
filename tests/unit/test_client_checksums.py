"""Lists of digests, against sha256sum(1) itself."""

from __future__ import annotations

import hashlib
import os
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forkserver.client.local import checksums

DIGEST = hashlib.sha256(b"").hexdigest()
NAMES = [b"plain", b"with space", b" leading", b"back\\slash", b"line\nfeed", b"return\r", b"\xff", b"*star", b"\\"]


def test_sha256sum_reads_what_we_write(tmp_path):
    for name in NAMES:
        (tmp_path / os.fsdecode(name)).write_bytes(name)
    lines = [checksums.encode(hashlib.sha256(name).hexdigest(), name) for name in NAMES]
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet"], input=b"".join(lines), cwd=tmp_path, check=True)


@pytest.mark.parametrize("flag", ["--text", "--binary"])
def test_we_read_what_sha256sum_writes(tmp_path, flag):
    for name in NAMES:
        (tmp_path / os.fsdecode(name)).write_bytes(name)
    written = subprocess.run(["sha256sum", flag, "--", *NAMES], cwd=tmp_path, check=True, capture_output=True).stdout
    read = list(checksums.decode(iter(written.splitlines(keepends=True))))
    assert read == [(hashlib.sha256(name).hexdigest(), name) for name in NAMES]


@given(st.binary(min_size=1).filter(lambda name: b"\0" not in name))
def test_every_name_comes_back(name):
    assert list(checksums.decode(iter([checksums.encode(DIGEST, name)]))) == [(DIGEST, name)]


def test_comments_empty_lines_and_windows_line_ends_do_no_harm():
    lines = [b"# made by hand\n", b"\n", DIGEST.upper().encode() + b"  name\r\n"]
    assert list(checksums.decode(iter(lines))) == [(DIGEST, b"name")]


@pytest.mark.parametrize(
    "line",
    [b"name", DIGEST.encode() + b" name", b"0" * 63 + b"  x", b"\\" + DIGEST.encode() + b"  a\\x", DIGEST.encode()],
)
def test_a_line_that_is_none_is_named_by_its_number(line):
    with pytest.raises(ValueError, match="line 2 "):
        list(checksums.decode(iter([b"\n", line + b"\n"])))


def test_the_digest_of_a_file_is_that_of_all_its_bytes(tmp_path):
    (tmp_path / "big").write_bytes(bytes(3_000_001))
    with open(tmp_path / "big", "rb") as file:
        assert checksums.sha256_of(file.fileno()) == hashlib.sha256(bytes(3_000_001)).hexdigest()

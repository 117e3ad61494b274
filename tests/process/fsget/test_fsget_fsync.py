"""``--fsync``: what is on the disk before a file is told as fetched."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("chosen", ["dir", "file", "none"])
def test_what_is_synced_is_what_was_chosen(place, environment, lying_server, says, chosen):
    """Of the file and of the manifest, as the kernel is asked."""
    trace = place.parent / "trace"
    trace.touch()
    server = lying_server(says.file(b"x"))
    code = (
        "import os, stat; real = os.fsync\n"
        "def fsync(fd):\n"
        "    kind = 'directory' if stat.S_ISDIR(os.fstat(fd).st_mode) else 'file'\n"
        "    with open('../trace', 'a') as trace: print(kind, file=trace)\n"
        "    real(fd)\n"
        "os.fsync = fsync\n"
        "from forkserver.client.command.cli import main; main()\n"
    )
    arguments = ["-s", server.address, "--fsync", chosen, "--manifest", "SUMS", "f"]
    subprocess.run([sys.executable, "-c", code, *arguments], cwd=place, env=environment, check=True)
    wanted = {"dir": ["file", "directory"] * 2, "file": ["file"] * 2, "none": []}
    assert trace.read_text().split() == wanted[chosen]
    assert (place / "f").read_bytes() == b"x"

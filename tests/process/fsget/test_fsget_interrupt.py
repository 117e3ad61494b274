"""Signals that end a run: none is lost, whatever the interpreter is doing when it comes."""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys

import pytest

SCRIPT = """
import os, signal, weakref
from forkserver.client.command import interrupt
from forkserver.client.outcome import Interrupted

class Mortal:
    pass

def send(_reference=None):
    os.kill(os.getpid(), signal.SIGINT)
    for _ in range(1000): pass  # here the handler runs

interrupt.catch()
try:
    {act}
    os.read(os.pipe()[0], 1)  # blocks for ever
except Interrupted as interruption:
    print("heeded", interruption.signal_number)
"""

CALLED_BACK = "mortal = Mortal(); reference = weakref.ref(mortal, send); del mortal"
DELETED = "Mortal.__del__ = send; mortal = Mortal(); del mortal"
CLEANING_UP = """
    try:
        send()
    finally:
        for _ in range(3):
            try:
                send()
                raise ValueError
            except ValueError:
                send()
        print("cleaned up")
"""


def run(act: str, environment) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", SCRIPT.format(act=act)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )


@pytest.mark.parametrize("act", [CALLED_BACK, DELETED], ids=["weak reference", "finalizer"])
def test_one_that_comes_where_the_interpreter_drops_what_is_raised_is_heeded(environment, act):
    result = run(act, environment)
    assert (result.stdout, result.stderr) == ("heeded 2\n", "")


def test_further_ones_do_not_disturb_who_cleans_up(environment):
    result = run(CLEANING_UP, environment)
    assert (result.stdout, result.stderr) == ("cleaned up\nheeded 2\n", "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("start", ["-m forkserver.client", "-c 'from forkserver.client.__main__ import main; main()'"])
def test_one_that_comes_during_the_imports_ends_the_process_without_a_word(environment, tmp_path, number, start):
    (tmp_path / "click.py").write_text("import time\nprint('importing', flush=True)\ntime.sleep(60)\n")
    path = f"{tmp_path}:{environment['PYTHONPATH']}"
    with subprocess.Popen(
        ["env", "--default-signal=INT,HUP", sys.executable, *shlex.split(start)],
        env={**environment, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "importing\n"
        process.send_signal(number)
        assert process.communicate() == ("", "")
    assert process.returncode == -number


def test_an_ignored_one_stays_ignored_during_the_imports(environment, tmp_path):
    (tmp_path / "click.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nos._exit(7)\n")
    ignoring = 'trap "" INT; exec "$@"'
    result = subprocess.run(
        ["/bin/sh", "-c", ignoring, "sh", sys.executable, "-m", "forkserver.client"],
        env={**environment, "PYTHONPATH": f"{tmp_path}:{environment['PYTHONPATH']}"},
        capture_output=True,
        check=False,
        timeout=20,
    )
    assert (result.returncode, result.stderr) == (7, b"")

"""Signals that end a run: none is lost, whatever the interpreter is doing when it comes."""

from __future__ import annotations

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

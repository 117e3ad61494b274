"""Start a command of ours by a fork from a process that has imported the command, instead of by an interpreter.

The tests start ``fsget`` and ``forkserver`` 1,500 times. A run of ``fsget`` that fetches nothing costs 0.16 s of
processor time by an interpreter, and 0.03 s by a fork. The started process has its own arguments, descriptors,
environment and directory, and is a child of the test's process, as with ``subprocess``. Only the interpreter's start is
shared: whatever an interpreter reads from its environment (``PYTHON*``, the locale) is the same for all processes of
one template.

This file is both sides: the tests import it, and each template runs it as a program.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import importlib
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_CLONE_PARENT = 0x00008000
_SYS_CLONE = {"x86_64": 56, "aarch64": 220}.get(platform.machine())
_STANDARD, _MOST_FDS = 3, 1 << 16
REPOSITORY = Path(__file__).parents[1]
FSGET = ("forkserver.client.__main__", "forkserver.client.command.cli")
SERVER = ("forkserver.front.cli", "forkserver.supervisor.supervise")
"""Modules: the first has the command's ``main``; the command imports the others when it runs."""
_USUAL = {("PYTHONPATH", str(REPOSITORY)), ("PYTHONWARNINGS", "error"), ("LC_ALL", "C.UTF-8")}
"""Variables that many tests set for an interpreter. Any other value is rare, so no template is kept for it."""
_POSSIBLE = {"cwd", "env", "stdin", "stdout", "stderr"}
"""The options of ``subprocess.Popen`` that a forked process can have."""


def start(
    modules: Sequence[str],
    arguments: Sequence[str | bytes],
    *,
    prefix: Sequence[str] = (),
    pass_fds: Sequence[int] = (),
    **options: Any,
) -> subprocess.Popen[bytes]:
    """Start the command ``-m modules[0]``: by a fork where the options of ``subprocess.Popen`` allow that.

    ``prefix`` is a command that runs the other by exec.
    """
    environment = options.setdefault("env", dict(os.environ))
    unusual = _read_at_start(environment) - _read_at_start(os.environ) - _USUAL
    if _SYS_CLONE and not (prefix or pass_fds or unusual) and options.keys() <= _POSSIBLE:
        return _Forked(modules, [modules[0], *arguments], **options)
    command = [*prefix, sys.executable, "-m", modules[0], *arguments]
    return subprocess.Popen(command, pass_fds=pass_fds, **options)


def finish(process: subprocess.Popen[bytes], **options: Any) -> subprocess.CompletedProcess[bytes]:
    """Let ``process`` end, as ``subprocess.run`` does; ``options`` are those of ``Popen.communicate``."""
    with process:
        try:
            out, err = process.communicate(**options)
        finally:
            process.kill()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


class _Forked(subprocess.Popen[bytes]):
    """A ``Popen`` whose program is forked from a template."""

    def __init__(self, modules: Sequence[str], arguments: Sequence[str | bytes], **options: Any) -> None:
        self._modules = modules
        super().__init__(arguments, **options)

    def _execute_child(self, args, _executable, _preexec_fn, _close_fds, _pass_fds, cwd, env, *rest) -> None:
        p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite = rest[3:9]
        request = {
            "arguments": [os.fsdecode(argument) for argument in args],
            "environment": env,
            "directory": os.fsdecode(os.getcwd() if cwd is None else cwd),
        }
        fds = [number if fd == -1 else fd for number, fd in enumerate((p2cread, c2pwrite, errwrite))]
        self.pid = _template(self._modules, env).start(request, fds)
        self._child_created = True
        self._close_pipe_fds(p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite)  # type: ignore[attr-defined]


class _Template:
    """A process that has imported ``modules``, with an environment for all that an interpreter reads of it."""

    def __init__(self, modules: Sequence[str], environment: Mapping[str, str]) -> None:
        self._lock = threading.Lock()  # some tests start programs from several threads
        self._channel, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno()), *modules],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env=environment,
                cwd="/",
            )
        atexit.register(self._stop)

    def start(self, request: dict[str, Any], fds: list[int]) -> int:
        """Start a process with these standard descriptors; returns its PID."""
        with self._lock, open(os.memfd_create("request"), "w+", encoding="utf-8") as file:
            json.dump(request, file)  # more than a socket takes at once, where a command has thousands of names
            file.flush()
            socket.send_fds(self._channel, [b"fork"], [*fds, file.fileno()])
            pid = int.from_bytes(self._channel.recv(4), sys.byteorder, signed=True)
        assert pid > 0, f"the template of {request['arguments'][0]} is gone, or cannot fork"
        return pid

    def _stop(self) -> None:
        self._channel.close()
        self._process.wait()


_templates: dict[object, _Template] = {}
_templates_lock = threading.Lock()


def _template(modules: Sequence[str], environment: Mapping[str, str]) -> _Template:
    key = (modules, frozenset(_read_at_start(environment)))
    with _templates_lock:
        if key not in _templates:
            _templates[key] = _Template(modules, environment)
        return _templates[key]


def _read_at_start(environment: Mapping[str, str]) -> set[tuple[str, str]]:
    """The variables of which an interpreter takes notice when it starts, and never again."""
    return {(key, value) for key, value in environment.items() if key.startswith(("PYTHON", "LC_", "LANG"))}


def _serve(channel: socket.socket) -> dict[str, Any]:
    """Fork for each request until the tests hang up. Returns only in a forked process: what it is to be."""
    while True:
        message, fds, _, _ = socket.recv_fds(channel, 16, _STANDARD + 1)
        if not message:
            sys.exit()
        pid = _fork_sibling()
        if pid:
            channel.sendall(pid.to_bytes(4, sys.byteorder, signed=True))
            for fd in fds:
                os.close(fd)
            continue
        channel.detach()
        with open(fds.pop(), encoding="utf-8") as file:
            file.seek(0)
            request: dict[str, Any] = json.load(file)
        for number, fd in enumerate(fds):
            os.dup2(fd, number)
        os.closerange(_STANDARD, _MOST_FDS)
        return request


def _fork_sibling() -> int:
    """Fork a process whose parent is ours, so that the tests can wait for it. Returns as ``os.fork`` does."""
    ctypes.pythonapi.PyOS_BeforeFork()
    # PyDLL: with the interpreter's lock held, as in os.fork().
    pid: int = ctypes.PyDLL(None).syscall(_SYS_CLONE, _CLONE_PARENT | signal.SIGCHLD, 0, 0, 0, 0)
    if pid:
        ctypes.pythonapi.PyOS_AfterFork_Parent()
    else:
        ctypes.pythonapi.PyOS_AfterFork_Child()
    return pid


def _become(request: dict[str, Any]) -> None:
    """Make this process what the interpreter's start would have made of it."""
    os.environ.clear()
    os.environ.update(request["environment"])
    time.tzset()
    os.chdir(request["directory"])
    sys.argv = request["arguments"]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored where the tests run under nohup
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        ours = getattr(sys, name)
        buffering = 1 if number == sys.stderr.fileno() or os.isatty(number) else -1
        how = {"encoding": ours.encoding, "errors": ours.errors, "closefd": False}
        setattr(sys, name, open(number, "w" if number else "r", buffering, **how))  # noqa: SIM115 - for good


def _main(channel_fd: str, *modules: str) -> None:
    sys.path[0] = str(REPOSITORY)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the tests' Ctrl-C is for them; they hang up
    from tests import measure  # noqa: PLC0415 - found only now

    command, *_ = [importlib.import_module(module) for module in modules]
    if measure.MEASURING and modules == SERVER:
        measure.measured_masters()
    gc.freeze()  # a collection in a forked process would copy every page
    _become(_serve(socket.socket(fileno=int(channel_fd))))
    command.main()


if __name__ == "__main__":
    _main(*sys.argv[1:])

"""``fsget`` as a program, and a server on loopback that plays scripts, true or false."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import socket
import struct
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from forkserver.client.local.partial import PIECE_BYTES
from tests import prefork

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

REPOSITORY = Path(__file__).parents[3]


def started(first: str, arguments: Sequence[str | bytes], **options: Any) -> subprocess.Popen[bytes]:
    """A run of ``fsget``, after ``first`` in a shell: the process between fork and exec, without a fork of ours."""
    # The tests themselves may run in the background of a shell or under nohup, where signals are ignored.
    shell = ["env", "--default-signal=INT,HUP", "/bin/sh", "-c", first + '; exec "$@"', "sh"]
    return prefork.start(prefork.FSGET, arguments, prefix=shell if first else (), **options)


# Steps of a script; any bytes in it are sent, an event is waited for.
ASK = "read one request line"
RESET = "close with a reset"
HOLD = "wait until the client hangs up"

GENEROUS_S = 20


Step = bytes | str | threading.Event


class LyingServer:
    """Plays one script a connection, in order, then stops to listen. ``requests`` are the lines it was sent."""

    def __init__(self, *scripts: Iterable[Step], family: socket.AddressFamily = socket.AF_INET, port: int = 0) -> None:
        self.requests: list[bytes] = []
        self._scripts = scripts
        self._listener = socket.create_server(
            ("::1" if family == socket.AF_INET6 else "127.0.0.1", port), family=family
        )
        self._connection: socket.socket | None = None
        host, port = self._listener.getsockname()[:2]
        self.address = f"[{host}]:{port}" if family == socket.AF_INET6 else f"{host}:{port}"
        self._thread = threading.Thread(target=self._play_all)
        self._thread.start()

    def stop(self) -> None:
        with contextlib.suppress(OSError):  # Already closed, after the last script.
            self._listener.shutdown(socket.SHUT_RDWR)
        # The client of a test that failed may still be there, and would be waited for.
        if self._connection is not None:
            with contextlib.suppress(OSError):
                self._connection.shutdown(socket.SHUT_RDWR)
        self._thread.join()

    def _play_all(self) -> None:
        with self._listener:
            for number, script in enumerate(self._scripts, 1):
                try:
                    connection, _ = self._listener.accept()
                except OSError:
                    return
                if number == len(self._scripts):
                    self._listener.close()
                # A client that has enough hangs up in the middle of a script.
                self._connection = connection
                with connection, contextlib.suppress(ConnectionError):
                    self._play(connection, script)

    def _play(self, connection: socket.socket, script: Iterable[Step]) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for step in script:
            if isinstance(step, bytes):
                connection.sendall(step)
            elif isinstance(step, threading.Event):
                step.wait(GENEROUS_S)
            elif step == ASK:
                line = b""
                while not line.endswith(b"\n") and (byte := connection.recv(1)):
                    line += byte
                self.requests.append(line)
            elif step == HOLD:
                while connection.recv(4096):
                    pass
            elif step == RESET:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class Result:
    """What became of a run: exit status, standard output and error, and the objects of ``--json``."""

    def __init__(self, finished: subprocess.CompletedProcess[bytes]) -> None:
        self.status = finished.returncode
        self.output = finished.stdout
        self.out = finished.stdout.decode("utf-8", "replace")
        self.err = finished.stderr.decode("utf-8", "replace")

    @property
    def objects(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.out.splitlines()]


@pytest.fixture
def lying_server() -> Iterator[Callable[..., LyingServer]]:
    servers: list[LyingServer] = []

    def start(*scripts: Iterable[Step], **options: Any) -> LyingServer:
        servers.append(LyingServer(*scripts, **options))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """The directory ``fsget`` runs in."""
    path = tmp_path / "place"
    path.mkdir()
    return path


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with hardly any space."""
    path = tmp_path / "tiny"
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", path], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount a file system of its own")
    yield path
    subprocess.run(["umount", path], check=True)


@pytest.fixture
def attributes(place: Path) -> None:
    """Extended attributes, which not every file system has."""
    (place / "probe").touch()
    try:
        os.setxattr(place / "probe", "user.fsget.probe", b"")
    except OSError:
        pytest.skip("no extended attributes in this file system")
    finally:
        (place / "probe").unlink()


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("FSGET_")}
    ours = {"PYTHONPATH": str(REPOSITORY), "PYTHONWARNINGS": "error", "LC_ALL": "C.UTF-8", "TZ": "UTC"}
    # No file of whoever runs the tests may count.
    return {**kept, **ours, "XDG_CONFIG_HOME": str(tmp_path / "config")}


@pytest.fixture
def fsget(place: Path, environment: dict[str, str]) -> Callable[..., Result]:
    """Run ``fsget`` to its end."""

    def run(*arguments: str | bytes, first: str = "", **options: object) -> Result:
        options = {"cwd": place, "env": environment, "stdin": subprocess.DEVNULL} | options
        ending: dict[str, Any] = {key: options.pop(key) for key in ("input", "timeout") if key in options}
        if "input" in ending:
            options["stdin"] = subprocess.PIPE
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
        return Result(prefork.finish(started(first, arguments, **options), **ending))

    return run


@pytest.fixture
def server(serve: Callable[..., Any]) -> Any:
    """A server of ``root``."""
    return serve()


@pytest.fixture
def get(fsget: Callable[..., Result], server: Any) -> Callable[..., Result]:
    """``fsget`` from that."""
    return functools.partial(fsget, "-s", f"{server.host}:{server.port}")


@pytest.fixture
def begin(place: Path, environment: dict[str, str]) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Begin a run of ``fsget`` that the test acts upon."""
    with contextlib.ExitStack() as stack:

        def start(*arguments: str, first: str = "", **options: object) -> subprocess.Popen[bytes]:
            process = started(first, arguments, **{"cwd": place, "env": environment} | options)
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield start


@pytest.fixture
def sha256sum() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run sha256sum(1) in a directory."""

    def run(directory: Path, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sha256sum", *arguments],
            cwd=directory,
            check=False,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            **options,
        )

    return run


@pytest.fixture
def says() -> type[Says]:
    return Says


class Says:
    """Lines and scripts of a server that tells the truth, for tests to bend."""

    ask = ASK
    reset = RESET
    hold = HOLD
    who = b"pid=4711 start=1763860000.123456"
    not_found = b'FS1 404 not-found pid=4711 start=1763860000.123456 message="does not exist on the server"\n'
    busy = b'FS1 503 busy pid=4710 start=1763860000.000001 message="all children are busy"\n'
    too_many = b'FS1 429 too-many-connections pid=4710 start=1763860000.000001 message="too many from you"\n'
    directory = b"FS1 200 ok pid=4711 start=1763860000.123456 type=dir mtime=1624000000.500000000 mode=755\n"

    entry = b"file /f size=1 mtime=1624000000.000000000 mode=644 etag=e-1\n"

    @classmethod
    def header(
        cls,
        size: int,
        *,
        length: int | None = None,
        mtime: str = "1624000000.000000000",
        offset: int = 0,
        etag: str = "e-1",
    ) -> bytes:
        length = min(size - offset, PIECE_BYTES) if length is None else length
        return (
            f"FS1 200 ok {cls.who.decode()} type=file size={size} mtime={mtime} mode=644 "
            f"etag={etag} offset={offset} length={length}\n"
        ).encode()

    @staticmethod
    def end(content: bytes) -> bytes:
        return f"FS1 END ok digest=sha256:{hashlib.sha256(content).hexdigest()}\n".encode()

    @classmethod
    def file(cls, content: bytes) -> list[bytes | str]:
        """The steps that serve a file as it should be."""
        return [ASK, cls.header(len(content)) + content + cls.end(content)]

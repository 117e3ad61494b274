"""The natural client of each server, as a command that fetches into a directory."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from typing import TYPE_CHECKING

from tests.bench import files

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.bench.peers import Room

_HOST = "127.0.0.1"
_AT_ONCE = 16


@dataclasses.dataclass(frozen=True)
class Client:
    """``command(room, port, target)`` fetches from ``server`` ("": from the disk) into the directory ``target``.

    ``looks``: what is there and unchanged it does not fetch.
    """

    name: str
    label: str
    server: str
    command: Callable[[Room, int, Path], list[str]]
    looks: bool = False


def _fsget(*options: str) -> Callable[[Room, int, Path], list[str]]:
    program = [sys.executable, "-m", "forkserver.client", "-q"]
    return lambda _room, port, target: [*program, "-s", f"{_HOST}:{port}", "-d", str(target), *options]


def _wget(_room: Room, port: int, target: Path) -> list[str]:
    return ["wget", "-q", "-O", str(target / files.BIG), f"http://{_HOST}:{port}/{files.BIG}"]


def _curl(scheme: str) -> Callable[[Room, int, Path], list[str]]:
    options = ["curl", "-s", "-S", "-f", "-o"]
    return lambda _room, port, target: [*options, str(target / files.BIG), f"{scheme}://{_HOST}:{port}/{files.BIG}"]


def _rsync(_room: Room, port: int, target: Path) -> list[str]:
    return ["rsync", f"rsync://{_HOST}:{port}/files/{files.BIG}", str(target)]


def _verified(fetch: Callable[[Room, int, Path], list[str]]) -> Callable[[Room, int, Path], list[str]]:
    def command(room: Room, port: int, target: Path) -> list[str]:
        checked = f"{shlex.join(fetch(room, port, target))} && sha256sum {shlex.quote(str(target / files.BIG))}"
        return ["sh", "-c", checked]

    return command


FILE_CLIENTS = [
    Client("fsget", "**fsget**, from forkserver: verified, sha256", "plain", _fsget(files.BIG)),
    Client("rsync", "rsync, from its daemon", "rsyncd", _rsync),
    Client("wget", "wget, from nginx", "nginx", _wget),
    Client("wget+sum", "wget, then sha256sum", "nginx", _verified(_wget)),
    Client("curl", "curl, from nginx", "nginx", _curl("http")),
    Client("curl+sum", "curl, then sha256sum", "nginx", _verified(_curl("http"))),
    Client("curl-ftp", "curl, from vsftpd", "vsftpd", _curl("ftp")),
]


def _tree_rsync(_room: Room, port: int, target: Path) -> list[str]:
    return ["rsync", "-a", f"rsync://{_HOST}:{port}/files/{files.TREE}/", str(target)]


def _names(room: Room) -> list[str]:
    base = room.root / files.TREE
    return sorted(str(path.relative_to(base)) for path in base.rglob("*") if path.is_file())


def _tree_curl(room: Room, port: int, target: Path) -> list[str]:
    lines = [f'url = "http://{_HOST}:{port}/{files.TREE}/{n}"\noutput = "{target}/{n}"\n' for n in _names(room)]
    path = room.configuration("curl-tree.conf", "".join(lines))
    return ["curl", "-s", "-S", "-f", "--parallel", "--parallel-max", str(_AT_ONCE), "--create-dirs", "-K", path]


def _tree_wget(room: Room, port: int, target: Path) -> list[str]:
    lines = [f"http://{_HOST}:{port}/{files.TREE}/{name}\n" for name in _names(room)]
    path = room.configuration("wget-tree.list", "".join(lines))
    return ["wget", "-q", "-x", "-nH", "--cut-dirs=1", "-P", str(target), "-i", path]


def _tree_cp(room: Room, _port: int, target: Path) -> list[str]:
    return ["cp", "-r", f"{room.root / files.TREE}/.", str(target)]


TREE_CLIENTS = [
    Client("fsget", "**fsget**, from forkserver: verified, sha256", "plain", _fsget(f"{files.TREE}/**"), looks=True),
    Client("rsync", "rsync -a, from its daemon", "rsyncd", _tree_rsync, looks=True),
    Client("curl", f"curl --parallel ({_AT_ONCE} at once), from nginx", "nginx", _tree_curl),
    Client("wget", "wget, from nginx", "nginx", _tree_wget),
    Client("cp", "cp -r, no server at all", "", _tree_cp),
]

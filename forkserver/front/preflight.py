"""What a daemon will need, tried before there is one: as the user it will be, beside the one that runs. In the front.

``start`` would find all of it out as well; but a ``restart`` has stopped the old daemon by then, and what a user may
not read shows there as whatever Python makes of it.
"""

from __future__ import annotations

import encodings.idna
import errno
import os
import socket
import sys
from typing import TYPE_CHECKING

from forkserver.errors import OperatorError
from forkserver.front.configfile import escape
from forkserver.settings import FIELDS, Settings
from forkserver.supervisor import address, listener

if TYPE_CHECKING:
    from collections.abc import Iterator

    from forkserver.front.owner import Owner

LOADED = (encodings.idna,)
"""What Python would else look for on the disk when it is first used, perhaps as a user that may not read it."""
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_ELSEWHERE = "install forkserver with the system's own Python where every user can read it, beneath /opt for instance"
_ALLOW = "give it the right to, or serve another directory"
_LISTENING = "0A"
_FAMILIES = {socket.AF_INET: "/proc/net/tcp", socket.AF_INET6: "/proc/net/tcp6"}


def check_user(user: Owner, root: str) -> None:
    """Whether that user can run this Python with this package, and enter ``root``. Raises OperatorError."""
    library = os.path.dirname(os.path.abspath(os.__file__))
    master = os.path.join(_PACKAGE, "master", "__main__.py")
    # A link is followed by whoever may; what it leads to is asked for by itself.
    programs = {sys.executable, os.path.realpath(sys.executable)}
    modules = {os.path.realpath(path) for path in (os.__file__, encodings.__file__, master)}

    with user.acting():
        for path in sorted(programs):
            _require(user, path, os.X_OK, "run Python", _ELSEWHERE)
        for path in (os.path.realpath(library), os.path.realpath(os.path.dirname(master))):
            _require(user, path, os.R_OK | os.X_OK, "read what is to be run", _ELSEWHERE)
        for path in sorted(modules):
            _require(user, path, os.R_OK, "read what is to be run", _ELSEWHERE)
        try:
            _require(user, root, os.X_OK, "serve it", _ALLOW)
        except OperatorError as error:
            raise OperatorError(f"root: {error}") from None


def _require(user: Owner, path: str, mode: int, purpose: str, remedy: str) -> None:
    """Raises OperatorError, with the directory on the way that is closed, if any is."""
    way = path
    parents = []
    while (parent := os.path.dirname(way)) != way:
        parents.append(parent)
        way = parent
    for parent in reversed(parents):
        if not os.access(parent, os.X_OK, effective_ids=True):
            complaint = f"user {escape(user.name)} may not enter it, which it must to {purpose}"
            on_the_way = "" if purpose == "serve it" else f", {escape(path)}"
            raise OperatorError(f"{escape(parent)}: {complaint}{on_the_way}; {remedy}")
    if not os.access(path, mode, effective_ids=True):
        raise OperatorError(f"{escape(path)}: user {escape(user.name)} has not the right to {purpose}; {remedy}")


def check_addresses(settings: Settings, running: int) -> None:
    """Whether the addresses can be had once the daemon ``running`` is gone. Raises OperatorError.

    Those that are free are held for a moment.
    """
    try:
        listener.close_all_but(listener.bind(settings), {})
    except OperatorError as error:
        if not _is_taken(error):
            raise
    else:
        return
    held = _sockets_of(running)
    free: list[listener.Listeners] = []
    try:
        for family, host, place in _places(settings):
            try:
                free.append(listener.bind(_with_bind(settings, place)))
            except OperatorError as error:
                if not _is_taken(error) or not _is_only_held_by(held, family, host, address.parse(place, 0)[1]):
                    raise
    finally:
        for each in free:
            listener.close_all_but(each, {})


def _is_taken(error: OperatorError) -> bool:
    return isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EADDRINUSE


def _with_bind(settings: Settings, place: str) -> Settings:
    values = {name: getattr(settings, name) for name in FIELDS}
    return Settings(**(values | {"bind": (place,)}))


def _places(settings: Settings) -> Iterator[tuple[int, str, str]]:
    """Family, host and ``[HOST]:PORT`` of all addresses that the settings name; each once."""
    seen = set()
    for text in settings.bind:
        name, port = address.parse(text, settings.port)
        for family, _, _, _, place in socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE):
            host = str(place[0])
            zone = f"%{place[3]}" if family == socket.AF_INET6 and place[3] else ""  # type: ignore[misc] # of a family each
            whole = f"[{host}{zone}]:{port}" if ":" in host else f"{host}:{port}"
            if port and whole in seen:
                raise OperatorError(f"bind: {escape(text)}: {whole} is named twice; name it once")
            seen.add(whole)
            yield family, host, whole


def _sockets_of(pid: int) -> set[str]:
    """Inodes of the sockets of a process."""
    found = set()
    try:
        for fd in os.listdir(f"/proc/{pid}/fd"):
            target = os.readlink(f"/proc/{pid}/fd/{fd}")
            if target.startswith("socket:["):
                found.add(target[len("socket:[") : -1])
    except OSError:
        pass  # it is ending, and then nothing is held any more
    return found


def _is_only_held_by(held: set[str], family: int, host: str, port: int) -> bool:
    """Whether sockets of ``held`` are in the way of the address, and no others."""
    wanted = socket.inet_pton(family, host)
    in_the_way = [
        inode
        for inode, bound, bound_port in _listening(family)
        if bound_port == port and (bound == wanted or not any(bound) or not any(wanted))
    ]
    return bool(in_the_way) and held.issuperset(in_the_way)


def _listening(family: int) -> Iterator[tuple[str, bytes, int]]:
    """Inode, address and port of every listening socket, by proc(5)."""
    with open(_FAMILIES[socket.AddressFamily(family)], encoding="ascii") as file:
        for row in list(file)[1:]:
            fields = row.split()
            if fields[3] == _LISTENING:
                hexadecimal, _, port = fields[1].partition(":")
                words = [hexadecimal[start : start + 8] for start in range(0, len(hexadecimal), 8)]
                yield fields[9], b"".join(int(word, 16).to_bytes(4, sys.byteorder) for word in words), int(port, 16)

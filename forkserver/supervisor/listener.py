"""Bind listeners, or adopt them from the service manager. Runs in the supervisor.

Listeners outlive every master: a connection that arrives while there is no master waits in the backlog.
"""

from __future__ import annotations

import errno
import socket

from forkserver.errors import OperatorError
from forkserver.ipc.control import MAX_LISTENERS
from forkserver.kernel import linger
from forkserver.settings import FIELDS, Settings
from forkserver.supervisor import address

Place = tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]  # as getaddrinfo(3) gives it
Listeners = dict[tuple[int, Place], socket.socket]

BACKLOG = 4096
"""The kernel lowers it to net.core.somaxconn, listen(2)."""
UNSENT_BYTES = 1 << 19
"""Limit of the bytes that the kernel takes from a child before they are sent (TCP_NOTSENT_LOWAT, tcp(7)), give or take
a segment.

The kernel charges these bytes to the control group of the service (cgroup v2). Without the limit a peer that reads
nothing costs megabytes, net.ipv4.tcp_wmem. Half the limit cost a few percent of the throughput; twice the limit gained
nothing.
"""
_USER_TIMEOUT_S = 60
_KEEPALIVE_IDLE_S, _KEEPALIVE_INTERVAL_S, _KEEPALIVE_COUNT = 60, 10, 6

_REMEDIES = {
    errno.EADDRINUSE: "another process listens there, or this server at a wider address; choose another port",
    errno.EADDRNOTAVAIL: "this machine has no such address; see `ip address`",
    errno.EACCES: "ports below 1024 need CAP_NET_BIND_SERVICE; choose a higher port",
    errno.EAFNOSUPPORT: "this kernel does not speak that address family; choose an address of the other one",
}


def bind(settings: Settings, kept: Listeners | None = None) -> Listeners:
    """Listen on every address of the settings; reuse the listeners of ``kept`` for addresses that stay.

    Raises OperatorError, after closing every listener that is not in ``kept``.
    """
    places = [place for text in settings.bind for place in _resolve(text, settings.port)]
    if len(places) > MAX_LISTENERS:
        raise OperatorError(f"bind: {len(places)} addresses are more than {MAX_LISTENERS}; name fewer")
    listeners: Listeners = {}
    try:
        for place in places:
            listeners[place] = (kept or {}).get(place) or _listen(*place)
    except OperatorError:
        close_all_but(listeners, kept or {})
        raise
    return listeners


def close_all_but(listeners: Listeners, kept: Listeners) -> None:
    """Close the listeners that are not also in ``kept``."""
    for place, listener in listeners.items():
        if place not in kept:
            listener.close()


def adopt(passed: list[socket.socket]) -> Listeners:
    """Check sockets from the service manager and return them as listeners. Raises OperatorError."""
    if len(passed) > MAX_LISTENERS:
        raise OperatorError(f"LISTEN_FDS: {len(passed)} sockets are more than {MAX_LISTENERS}; pass fewer")
    for listener in passed:
        is_tcp = listener.family in (socket.AF_INET, socket.AF_INET6) and listener.type == socket.SOCK_STREAM
        if not is_tcp or not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            raise OperatorError(
                f"descriptor {listener.fileno()} passed by the service manager is no listening TCP socket: "
                "the socket unit needs ListenStream= with a port, and Accept=no"
            )
    return {(listener.family, listener.getsockname()): listener for listener in passed}


def unused_addresses(settings: Settings, adopted: Listeners) -> str:
    """Return a warning if ``bind`` or ``port`` names other addresses than those of the ``adopted`` sockets, else "".

    Sockets that were passed at the start take precedence over the settings.
    """
    named = [name for name in ("bind", "port") if getattr(settings, name) != FIELDS[name].default]
    if not named:
        return ""
    try:
        places = {place for text in settings.bind for place in _resolve(text, settings.port)}
    except OperatorError:
        places = set()
    if places == adopted.keys():
        return ""
    values = " and ".join(f"{name} = {_join(getattr(settings, name))}" for name in named)
    have = ", ".join(map(describe, adopted.values()))
    return (
        f"{values}: not used, because the server was started with sockets on {have}; "
        "to listen elsewhere under systemd, `systemctl edit forkserver.socket`; "
        "a daemon of `forkserver start` needs a restart"
    )


def _join(value: object) -> str:
    return ", ".join(value) if isinstance(value, tuple) else str(value)


def describe(listener: socket.socket) -> str:
    """Return ``HOST:PORT``, or ``[HOST]:PORT`` for IPv6, as really bound: with the port that the kernel chose."""
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _resolve(text: str, default_port: int) -> list[tuple[int, Place]]:
    try:
        host, port = address.parse(text, default_port)
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except ValueError as error:
        raise OperatorError(f"bind: {text!r}: {error}") from error
    except OSError as error:
        raise OperatorError(
            f"bind: {text!r} cannot be resolved ({error.strerror}); give an address of this machine"
        ) from error
    return [(family, place) for family, _, _, _, place in found]


def _listen(family: int, place: Place) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # Take no IPv4 peers here, whatever net.ipv6.bindv6only says, so that a peer's address has one spelling.
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(place)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        remedy = _REMEDIES.get(error.errno or 0, "choose another address")
        raise OperatorError(
            f"bind: cannot listen on {place[0]!s} port {place[1]!s}: {error.strerror}: {remedy}"
        ) from error
    return listener


def set_options(listeners: Listeners, settings: Settings) -> None:
    """Set the options that accepted connections inherit.

    * Keep-alive and user timeout: notice a peer that died silently, but not before ``stall_s``.
    * TCP_NOTSENT_LOWAT: limit the memory of a connection whose peer does not read, see ``UNSENT_BYTES``.
    * SO_LINGER: reset the connection of a process that is killed, see ``forkserver.kernel.linger``.
    """
    # The user timeout also ends a living peer that keeps its window closed. The child's ``stall_s`` must end it first.
    user_timeout_ms = int(max(_USER_TIMEOUT_S, 2 * settings.stall_s) * 1000)
    for listener in listeners.values():
        for level, option, value in (
            (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
            (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_IDLE_S),
            (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _KEEPALIVE_INTERVAL_S),
            (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _KEEPALIVE_COUNT),
            (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, user_timeout_ms),
            (socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES),
            (socket.SOL_SOCKET, socket.SO_LINGER, linger.RESET),
        ):
            listener.setsockopt(level, option, value)

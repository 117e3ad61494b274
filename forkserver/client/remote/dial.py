"""Connect to a server, and hang up. Runs in the client."""

from __future__ import annotations

import contextlib
import socket
import struct
from typing import TYPE_CHECKING

from forkserver.client.outcome import Exit, Failure, Word

if TYPE_CHECKING:
    from forkserver.client.remote.address import Address

# struct linger of socket(7): on or off, and how many seconds a close waits.
_RESET = struct.pack("ii", 1, 0)
_IN_ORDER = struct.pack("ii", 0, 0)


class NoAnswer(Exception):
    """The server hung up before the first byte of an answer."""


def connect(address: Address, timeout_s: float) -> socket.socket:
    """Return a connection to ``address``. ``timeout_s`` bounds connecting, and every later wait for the server.

    Raises Failure with the reason for people, and NoAnswer if the server resets the connection at once.
    """
    # Pass bytes: Python would encode a str with the idna codec, whose tables take longer to load than a small file
    # takes to fetch.
    host = address.host.encode("ascii") if address.host.isascii() else address.host
    try:
        connected = socket.create_connection((host, address.port), timeout_s)  # type: ignore[arg-type] # typeshed: str
    except TimeoutError:
        why = f"did not accept a connection within {timeout_s:g} s"
    except socket.gaierror as error:
        why = f"is not to be found: {error.strerror}"
    except UnicodeError:
        why = "is not a host name"
    except ConnectionRefusedError:
        why = "refused the connection: nothing listens there"
    except ConnectionResetError:
        raise NoAnswer from None
    except OSError as error:
        why = f"is not reachable: {error.strerror or error}"
    else:
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Let the kernel reset the connection if this process is killed. Otherwise the kernel may tell the server for a
        # minute that the window is closed, as if the client were still there, and a process of the server would wait.
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        return connected
    raise Failure(Exit.UNREACHABLE, Word.UNREACHABLE, f"{address} {why}")


def hang_up(connected: socket.socket, *, in_order: bool) -> None:
    """Close the connection: ``in_order``, or with a reset, so that the server stops sending."""
    if in_order:
        with contextlib.suppress(OSError):  # the server has reset the connection
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _IN_ORDER)
    connected.close()

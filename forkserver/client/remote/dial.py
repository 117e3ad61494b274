"""Connect to a server, or say in words for people why not; and hang up. Runs at the user's."""

from __future__ import annotations

import contextlib
import socket
import struct
from typing import TYPE_CHECKING

from forkserver.client.outcome import Exit, Failure, Word

if TYPE_CHECKING:
    from forkserver.client.remote.address import Address

_RESET = struct.pack("ii", 1, 0)
_IN_ORDER = struct.pack("ii", 0, 0)
"""struct linger of socket(7): on or off, and how many seconds a close waits."""


class NoAnswer(Exception):
    """The server hung up before the first byte of an answer."""


def connect(address: Address, timeout_s: float) -> socket.socket:
    """A connection to ``address``, made within ``timeout_s``. Raises Failure and NoAnswer."""
    # A str would be encoded by the idna codec, whose tables take longer to load than a small file to fetch.
    host = address.host.encode("ascii") if address.host.isascii() else address.host
    try:
        connected = socket.create_connection((host, address.port), timeout_s)  # type: ignore[arg-type] # typeshed: str
    except TimeoutError:
        why = f"{address} did not accept a connection within {timeout_s:g} s"
        raise Failure(Exit.UNREACHABLE, Word.UNREACHABLE, why) from None
    except socket.gaierror as error:
        why = f"{address} is not to be found: {error.strerror}"
        raise Failure(Exit.UNREACHABLE, Word.UNREACHABLE, why) from None
    except UnicodeError:
        raise Failure(Exit.UNREACHABLE, Word.UNREACHABLE, f"{address} is not a host name") from None
    except ConnectionRefusedError:
        why = f"{address} refused the connection: nothing listens there"
        raise Failure(Exit.UNREACHABLE, Word.UNREACHABLE, why) from None
    except ConnectionResetError:
        raise NoAnswer from None
    except OSError as error:
        why = f"{address} is not reachable: {error.strerror or error}"
        raise Failure(Exit.UNREACHABLE, Word.UNREACHABLE, why) from None
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # For a run that is killed: without a reset the kernel of a client that is gone may tell the server for a minute
    # that the window is closed, as if the client still were there, and that keeps a process of the server waiting.
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    return connected


def hang_up(connected: socket.socket, *, in_order: bool) -> None:
    """Close the connection: ``in_order``, or, where the server is to stop what it sends, with a reset."""
    if in_order:
        with contextlib.suppress(OSError):  # the server has reset it
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _IN_ORDER)
    connected.close()

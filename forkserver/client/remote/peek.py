"""A quick look into a directory of a server, that takes a bounded time and may well fail. Runs at the user's."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, TypeVar

from forkserver.client.remote.listing import entries
from forkserver.client.remote.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from forkserver.client.remote.address import Address
    from forkserver.client.remote.listing import Listed

_Answer = TypeVar("_Answer")


def peek(
    server: Address, directory: bytes, within_s: float, choose: Callable[[Iterator[Listed]], _Answer]
) -> _Answer | None:
    """What ``choose`` makes of the entries of ``directory``; None if that fails, or is not done ``within_s`` seconds.

    Asks once, over a connection of its own.
    """
    answers: list[_Answer] = []

    def look() -> None:
        session = Session(server, timeout_s=within_s, retries=0)
        # Nothing depends on it: whatever goes wrong, a server that lies among it, there is just no answer.
        with contextlib.suppress(Exception), contextlib.closing(session):
            answers.append(choose(entries(session, directory, recursive=False)))

    # A timeout of the socket bounds neither the search for the host's address nor a server that sends byte by byte.
    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    thread.join(within_s)
    return answers[0] if answers else None

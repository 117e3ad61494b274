"""List a directory of a server within a bounded time, or give up. Runs in the client."""

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
    """Return what ``choose`` returns for the entries of ``directory``; None after a failure or ``within_s`` seconds.

    Ask once, over a separate connection.
    """
    answers: list[_Answer] = []

    def look() -> None:
        session = Session(server, timeout_s=within_s, retries=0)
        # The caller can do without an answer, so suppress every error, also those that a lying server causes.
        with contextlib.suppress(Exception), contextlib.closing(session):
            answers.append(choose(entries(session, directory, recursive=False)))

    # Wait for a thread: a timeout of the socket bounds neither the lookup of the host nor a server that sends slowly.
    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    thread.join(within_s)
    return answers[0] if answers else None

"""The sessions of one client, all with the same servers and limits. Runs in the client."""

from __future__ import annotations

import functools
import weakref
from typing import TYPE_CHECKING

from forkserver.client.remote.ratelimit import RateLimit
from forkserver.client.remote.session import Session

if TYPE_CHECKING:
    from forkserver.client.events import OnEvent
    from forkserver.client.outcome import Served
    from forkserver.client.remote.address import Address


class Sessions:
    """Opens sessions with ``servers``, any of which may answer.

    ``connections`` sessions at a time fetch a tree or a large file. ``timeout_s`` and ``retries`` hold for each
    session. ``rate``, in bytes a second, holds for all sessions together. ``on_event`` is called with the retries of
    every session.
    """

    def __init__(  # noqa: PLR0913 - the limits of a client
        self,
        servers: tuple[Address, ...],
        *,
        timeout_s: float,
        retries: int,
        connections: int,
        rate: int | None,
        on_event: OnEvent,
    ) -> None:
        self.servers = servers
        self.connections = connections
        self._session = functools.partial(
            Session,
            timeout_s=timeout_s,
            retries=retries,
            on_event=on_event,
            rate_limit=None if rate is None else RateLimit(rate),
        )
        self._first: Session | None = None
        self._opened: weakref.WeakSet[Session] = weakref.WeakSet()

    @property
    def first(self) -> Session:
        """The session for everything that needs only one session."""
        if self._first is None:
            self._first = self.open(0)
        return self._first

    def open(self, number: int) -> Session:
        """Open a further session. Sessions with different numbers begin with different servers."""
        start = number % len(self.servers)
        session = self._session(*self.servers[start:], *self.servers[:start])
        self._opened.add(session)
        return session

    def helpers(self) -> list[Session]:
        """Open the sessions that fetch a large file besides the first."""
        return [self.open(number) for number in range(1, self.connections)]

    def serving(self) -> list[Served]:
        """Return the processes that serve this client now."""
        return sorted(session.served for session in list(self._opened) if session.connected and session.served)

    def close(self) -> None:
        """Close the first session. The next use opens it again."""
        if self._first is not None:
            self._first.close()
            self._first = None

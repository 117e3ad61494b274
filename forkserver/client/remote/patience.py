"""How long, and how often, a server that is busy is asked again, and who is told of it. Runs at the user's."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

FIRST_WAIT_S = 0.1
LONGEST_WAIT_S = 2.0


class Retry(NamedTuple):
    """A request that is about to be made again."""

    reason: str
    """Which server failed and how, as ``127.0.0.1:2057 is busy``."""
    asks: str
    """The server that is asked next, or ``again`` where it is the same one."""
    number: int
    """How many times the servers have been waited for since something last succeeded; 0: not yet."""
    most: int
    """After how many times they are given up."""
    wait_s: float
    """Seconds until the server is asked."""
    lasting_s: float
    """Seconds since the first failure after something last succeeded."""

    def text(self, soon: str = "") -> str:
        """Return the retry as a clause for people; ``soon`` is when the server is asked, as `` in 2 s``."""
        count = f" ({self.number} of {self.most})" if self.number else ""
        return f"{self.reason}, asking {self.asks}{soon}{count}"


class Watcher:
    """Is told of the retries of one connection; this one does not care."""

    def again(self, retry: Retry) -> None:
        """A request is made again after a wait, which begins now."""

    def clear(self) -> None:
        """The server has answered, or is given up."""


def turns(others: int, retries: int) -> Iterator[tuple[int, float]]:
    """Yield the number of the retry and the seconds to wait before, for every turn to the next server.

    There are ``others`` besides the server that was asked first. All are asked once before the first wait.
    """
    yield from [(0, 0.0)] * others
    for number, wait_s in enumerate(backoff(retries), 1):
        yield from [(number, wait_s), *[(number, 0.0)] * others]


def backoff(retries: int) -> Iterator[float]:
    """Seconds to wait before each retry: doubling to a cap, each shortened by chance so that a crowd spreads out."""
    import random  # noqa: PLC0415 - most runs never wait, and all would pay for it

    for attempt in range(retries):
        yield min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** min(attempt, 10)) * random.uniform(0.5, 1)  # noqa: S311 - no secret

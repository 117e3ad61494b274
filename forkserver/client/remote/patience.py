"""How long, and how often, a server that is busy is asked again, and who is told of it. Runs at the user's."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

FIRST_WAIT_S = 0.1
LONGEST_WAIT_S = 2.0


class Watcher:
    """Is told of the waits of one request; this one does not care."""

    def begin(self) -> None:
        """A request is about to be made."""

    def again(self, text: str) -> None:
        """``text`` is why and how often it is made again."""

    def clear(self) -> None:
        """It is answered, or given up."""


def backoff(retries: int) -> Iterator[float]:
    """Seconds to wait before each retry: doubling to a cap, each shortened by chance so that a crowd spreads out."""
    import random  # noqa: PLC0415 - most runs never wait, and all would pay for it

    for attempt in range(retries):
        yield min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** min(attempt, 10)) * random.uniform(0.5, 1)  # noqa: S311 - no secret

"""How long, and how often, a server that is busy is asked again. Runs at the user's."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

FIRST_WAIT_S = 0.1
LONGEST_WAIT_S = 2.0


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

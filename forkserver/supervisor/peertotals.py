"""What all generations have together, and who is told of it. Runs in the supervisor.

Limits are for the server, not for a master: what the others have counts against those of the one that accepts.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from forkserver.supervisor.generation import Generation


def mark_changed(generations: Sequence[Generation], peers: Iterable[str]) -> None:
    """The count of these peers is another: whoever accepts, or will, must be told."""
    for generation in generations:
        if not generation.retiring:
            generation.owed.update(peers)


def tell(generations: Sequence[Generation]) -> bool:
    """Tell the master that accepts what the others have; a new one accepts only once it knows all of it.

    Returns whether all is known: those that retire have accepted their last connection.
    """

    def connections(peer: str) -> int:
        # Of those that retire: no other tells of its peers.
        return sum(generation.peers.get(peer, 0) for generation in generations)

    counted = all(generation.counted for generation in generations)
    children = sum(generation.children for generation in generations)
    for generation in generations:
        generation.flush()
        if counted and generation.ready and not generation.retiring:
            generation.tell_others(children - generation.children, connections)
    return counted

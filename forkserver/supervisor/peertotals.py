"""Add up connections and children over all masters, and send the totals to the master that accepts.

Runs in the supervisor. The limits are the server's, so what retiring masters have counts against the limits of the
master that accepts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from forkserver.supervisor.generation import Generation


def mark_changed(generations: Sequence[Generation], peers: Iterable[str]) -> None:
    """Mark the counts of ``peers`` as changed, so that the next ``send_totals`` sends them."""
    for generation in generations:
        if not generation.retiring:
            generation.unsent_peers.update(peers)


def send_totals(generations: Sequence[Generation], children: int) -> bool:
    """Send the accepting master the counts of the others. A new master accepts only once it has all counts.

    ``children`` is the number of all children. Orphans are among them, and count for no peer.

    Return whether all counts are known. Then the retiring masters have accepted their last connection.
    """

    def connections(peer: str) -> int:
        # Only retiring masters report their counts per peer.
        return sum(generation.peers.get(peer, 0) for generation in generations)

    known = all(generation.counts_known for generation in generations)
    for generation in generations:
        generation.flush()
        if known and generation.ready and not generation.retiring:
            generation.send_totals(children - generation.children, connections)
    return known

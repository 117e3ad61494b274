"""Sum up a run in words: what was fetched, or would be in a dry run. Runs in the client."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forkserver.client.display import count, counted, processes, rate

if TYPE_CHECKING:
    from forkserver.client.fetch.counts import Counts

_MOST_PIDS = 4


def tree_in_words(counts: Counts, seconds: float) -> str:
    """Return a line about the fetch of a tree, which took ``seconds``."""
    parts = [counted(counts.files, "file"), counted(counts.size, "byte")]
    if counts.unchanged:
        some = counts.unchanged < counts.files
        parts.append(f"{count(counts.unchanged)} of them unchanged" if some else "unchanged")
    if counts.received:
        parts += ["sha256 verified", f"{seconds:.2f} s", rate(counts.received / max(seconds, 0.001))]
    if counts.skipped:
        directories = counted(counts.skipped, "directory", "directories")
        parts.append(f"{directories} behind {'a symbolic link' if counts.skipped == 1 else 'symbolic links'} left out")
    if counts.failed:
        parts.append(f"{count(counts.failed)} failed")
    if counts.left_out:
        parts.append(left_out_in_words(count(counts.left_out)))
    if counts.served:
        parts.append(f"served by {processes(counts.served, most=_MOST_PIDS)}")
    if counts.deleted:
        parts.append(f"{count(counts.deleted)} deleted here")
    if counts.swept:
        parts.append(f"{counted(counts.swept, 'temporary file')} of killed runs removed")
    return ", ".join(parts)


def plan_in_words(counts: Counts, failed: int = 0) -> str:
    """Return a line about what a dry run would do. ``failed`` is the number of failures to mention."""
    files, size = counted(counts.planned_files, "file"), counted(counts.planned_size, "byte")
    parts = [f"{files} with {size} would be fetched"]
    if counts.unchanged:
        parts.append(f"{count(counts.unchanged)} {'is' if counts.unchanged == 1 else 'are'} here and unchanged")
    if counts.deleted:
        parts.append(f"{count(counts.deleted)} would be deleted here")
    if failed:
        parts.append(f"{count(failed)} failed")
    return ", ".join(parts)


def left_out_in_words(shown: str) -> str:
    """Return a clause about files that were not tried because others had failed. ``shown`` is their number."""
    return f"{shown} not tried, for the same reason"

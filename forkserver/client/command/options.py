"""Hold the options of the command line of ``fsget``, and check their combination. Runs in the client."""

from __future__ import annotations

from typing import NamedTuple

import click

from forkserver.client.fetch.job import Wishes
from forkserver.client.fetch.pattern import fixed_part, is_pattern
from forkserver.client.local.target import Durable
from forkserver.client.remote.address import Address, Location, local_name, pattern_directory, tree_name


class Options(NamedTuple):
    """The options of one run. Paths are bytes; ``-`` stands for a standard stream.

    ``action`` is ``fetch``, ``stat``, ``list`` or ``verify``. ``output`` is the path of the one file fetched; None
    stands for the file's own name in ``directory``. ``connections`` connections fetch a tree or a large file, all
    together at most ``rate`` bytes a second. ``include`` and ``exclude`` choose files of a tree. ``dry``: only tell
    what would be done. ``delete``: delete local files that the server does not have. ``durable``: None stands for DIR,
    and for NONE in trees. ``by_content``: compare local files by content. ``expected`` is the SHA-256 of the one file
    fetched, in hexadecimal digits. ``manifest`` is the list to write, ``listed`` the list to verify, ``names_from``
    lists of more names, which end in NUL if ``null``. ``paths``: whether a name becomes the local path as a whole;
    None: only names of ``names_from`` do.
    """

    action: str
    servers: tuple[Address, ...]
    recursive: bool
    output: bytes | None
    directory: bytes
    as_json: bool
    quiet: bool
    timeout_s: float
    retries: int
    verbose: bool
    connections: int
    rate: int | None
    dry: bool
    delete: bool
    confirm_delete: bool
    include: tuple[bytes, ...]
    exclude: tuple[bytes, ...]
    durable: Durable | None
    by_content: bool
    expected: str | None
    manifest: bytes | None
    listed: bytes | None
    names_from: tuple[bytes, ...]
    null: bool
    paths: bool | None

    def check(self, names: tuple[bytes, ...]) -> None:
        """Raise UsageError for options that do not go together, or not with ``names``."""
        action, is_fetch, more = self.action, self.action == "fetch", self.names_from
        has_output, has_digest = self.output is not None, self.expected is not None
        wrong = {
            "--null goes with --names-from": self.null and not more,
            "--delete removes local files that the server does not have: add --dry-run to see which, "
            "--confirm-delete to do it": self.delete and not (self.confirm_delete or self.dry),
            "--confirm-delete goes with --delete": self.confirm_delete and not self.delete,
            "--dry-run goes with fetching under the files' own names, without a --manifest": self.dry
            and (not is_fetch or has_output or self.manifest is not None),
            "--delete goes with --recursive and a NAME, and without --names-from": self.delete
            and not (is_fetch and self.recursive and names and not more),
            f"--include and --exclude are for fetching, and not for --{action}": (self.include or self.exclude)
            and not is_fetch,
            "--names-from does not go with --verify, --output and --checksum=sha256:HEX": more
            and (action == "verify" or has_output or has_digest),
            "--paths and --no-paths go with fetching, and without --output and --checksum": self.paths is not None
            and (not is_fetch or has_output or has_digest),
            f"--recursive does not go with --{action}": self.recursive and action in ("stat", "verify"),
            "--output is for one file; where a tree goes, --directory says": has_output and self.recursive,
            "--output goes with fetching exactly one NAME": has_output and (not is_fetch or len(names) != 1),
            "--checksum (-c) goes with fetching; --verify compares with a list": self.by_content and not is_fetch,
            "--checksum goes with fetching exactly one NAME; several are for --verify": has_digest
            and (not is_fetch or len(names) != 1 or self.recursive),
            "--manifest goes with fetching at least one NAME into a file": self.manifest is not None
            and (not is_fetch or not (names or more) or self.output == b"-"),
            "--verify takes no NAME: the list has those of local files": action == "verify" and names,
        }
        for complaint, does_hold in wrong.items():
            if does_hold:
                raise click.UsageError(complaint)

    def may_be_many(self, location: Location) -> bool:
        """Return whether ``location`` may stand for more than one file."""
        if self.output is not None or self.expected is not None:
            return False
        return self.recursive or (not location.is_url and is_pattern(location.name))

    def own_name(self, location: Location) -> bytes | None:
        """Return the local name of the file or directory at ``location``, or None if the name gives none.

        Raises ValueError where the name cannot become a local name.
        """
        if self.action != "fetch" or self.output is not None:
            return None
        if not self.may_be_many(location):
            return None if location.is_directory else local_name(location)
        name = None
        if location.is_url or not is_pattern(location.name):
            name = tree_name(location)
        else:
            pattern_directory(location, fixed_part(location.name)[0])
        if self.delete and name is None:
            raise ValueError("--delete is for a directory that is named, not for a pattern, and not for all of /")
        return name

    @property
    def file_durable(self) -> Durable:
        """How durable a named file and a list must be."""
        return Durable.DIR if self.durable is None else self.durable

    def wishes(self, *, whole_digest: bool = False) -> Wishes:
        """Return the wishes for every file. ``whole_digest``: the digest of the whole file, also without a list."""
        listed = self.manifest is not None
        return Wishes(self.expected, whole_digest or listed, self.by_content or listed)

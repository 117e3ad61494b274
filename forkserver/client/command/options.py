"""The command line of ``fsget``, parsed and checked. Runs in the client."""

from __future__ import annotations

from typing import NamedTuple

from forkserver.client.fetch.job import Wishes
from forkserver.client.fetch.pattern import fixed_part, is_pattern
from forkserver.client.local.target import Durable
from forkserver.client.remote.address import Address, Location, local_name, pattern_directory, tree_name


class Options(NamedTuple):
    """The options of one run. Paths are bytes; ``-`` stands for a standard stream.

    ``action`` is ``fetch``, ``stat``, ``list`` or ``verify``. ``output`` is the path of the one file fetched; None
    stands for the file's own name in ``directory``. ``connections`` connections fetch a tree or a large file, all
    together at most ``rate`` bytes a second. ``include`` and ``exclude`` choose files of a tree. ``dry``: only tell
    what would be done. ``delete``: delete what the server does not have. ``durable``: None stands for DIR, and for NONE
    in trees. ``by_content``: compare local files by content. ``expected`` is the SHA-256 of the one file fetched, in
    hexadecimal digits. ``manifest`` is the list to write, ``listed`` the list to verify, ``names_from`` a list of more
    names. ``paths``: whether a name becomes the local path as a whole; None: only names of ``names_from`` do.
    """

    servers: tuple[Address, ...]
    action: str
    recursive: bool
    output: bytes | None
    directory: bytes
    as_json: bool
    quiet: bool
    timeout_s: float
    retries: int
    verbose: bool = False
    connections: int = 1
    rate: int | None = None
    dry: bool = False
    delete: bool = False
    include: tuple[bytes, ...] = ()
    exclude: tuple[bytes, ...] = ()
    durable: Durable | None = None
    by_content: bool = False
    expected: str | None = None
    manifest: bytes | None = None
    listed: bytes | None = None
    names_from: bytes | None = None
    paths: bool | None = None

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
        """Return what is wanted of every file. ``whole_digest``: the digest of the whole, also without a list."""
        listed = self.manifest is not None
        return Wishes(self.expected, whole_digest or listed, self.by_content or listed)

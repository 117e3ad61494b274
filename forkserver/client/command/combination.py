"""Refuse options of the command line that do not go together. Runs in the client."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from forkserver.client.command.options import Options


def check_combination(options: Options, names: tuple[str, ...]) -> None:
    """Raise UsageError for options that do not go together."""
    action, more = options.action, options.names_from
    wrong = {
        "--dry-run goes with fetching under the files' own names, without a --manifest": options.dry
        and (action != "fetch" or options.output is not None or options.manifest is not None),
        "--delete goes with --recursive and a NAME, and without --names-from": options.delete
        and not (action == "fetch" and options.recursive and names and more is None),
        f"--include and --exclude are for fetching, and not for --{action}": (options.include or options.exclude)
        and action != "fetch",
        "--names-from does not go with --verify, --output and --checksum=sha256:HEX": more is not None
        and (action == "verify" or options.output is not None or options.expected is not None),
        "--paths and --no-paths go with fetching, and without --output and --checksum": options.paths is not None
        and (action != "fetch" or options.output is not None or options.expected is not None),
        f"--recursive does not go with --{action}": options.recursive and action in ("stat", "verify"),
        "--output is for one file; where a tree goes, --directory says": options.output is not None
        and options.recursive,
        "--output goes with fetching exactly one NAME": options.output is not None
        and (action != "fetch" or len(names) != 1),
        "--checksum (-c) goes with fetching; --verify compares with a list": options.by_content and action != "fetch",
        "--checksum goes with fetching exactly one NAME; several are for --verify": options.expected is not None
        and (action != "fetch" or len(names) != 1 or options.recursive),
        "--manifest goes with fetching at least one NAME into a file": options.manifest is not None
        and (action != "fetch" or not (names or more) or options.output == b"-"),
        "--verify takes no NAME: the list has those of local files": action == "verify" and names,
    }
    for complaint, does_hold in wrong.items():
        if does_hold:
            raise click.UsageError(complaint)

"""Complete the command line in a shell: options, local files, and names on the server. Runs in the client.

The scripts in ``shells/`` make bash, zsh and fish run ``fsget``, which answers through click. Names on the server are
hostile input. A name that could deceive the user, or that contains a line feed, is not offered. No shell evaluates a
name, and every name is quoted before it is inserted.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
from itertools import islice
from typing import TYPE_CHECKING

from click.shell_completion import (
    BashComplete,
    CompletionItem,
    add_completion_class,
    split_arg_string,
)

from forkserver.client.display import decode, escape
from forkserver.client.remote.address import Address, parse_location
from forkserver.client.remote.peek import peek

if TYPE_CHECKING:
    from collections.abc import Iterator

    import click

    from forkserver.client.remote.listing import Listed

WITHIN_S = 1.0
MOST_NAMES = 10_000
"""If more names fit, no name is offered: a part of the names could seem to be all names."""


class _Bash(BashComplete):
    """Answer ``shells/fsget.bash``, which sends the line up to the cursor in COMP_WORDS and ``$2`` in COMP_CWORD.

    Bash must not split the line, because bash also splits at colons and equals signs. ``$2`` is what bash replaces:
    the text behind the last of these. Values are quoted here: with ``-o filenames`` bash would quote them, but would
    leave ``$HOME`` and parts of ``$(...)`` as they are.
    """

    def get_completion_args(self) -> tuple[list[str], str]:
        *before, last = _words(os.environ["COMP_WORDS"])
        return before[1:], last

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem[str]]:
        replaced = os.environ["COMP_CWORD"]
        if not incomplete.endswith(replaced):
            replaced = _words(replaced)[-1]
        if not incomplete.endswith(replaced):
            return []
        kept = incomplete.removesuffix(replaced)
        quote = _open_quote(os.environ["COMP_WORDS"])
        items = super().get_completions(args, incomplete)
        return [CompletionItem(_quoted(item.value.removeprefix(kept), quote), type=item.type) for item in items]


def register() -> None:
    """Have click answer bash with ``_Bash``. The classes of click for zsh and fish answer our scripts as they are."""
    add_completion_class(_Bash)


def script(shell: str) -> str:
    """Return the script that makes ``shell``, one of bash, zsh and fish, complete the command line of ``fsget``."""
    path = os.path.join(os.path.dirname(__file__), "shells", f"fsget.{shell}")
    with open(path, encoding="ascii") as file:
        return file.read()


def remote_names(context: click.Context, incomplete: str) -> list[CompletionItem[str]]:
    """Return the names on the server that begin with ``incomplete``; directories end in a slash.

    Return nothing if the server does not answer in time.
    """
    servers = context.params.get("servers")
    if not servers or not isinstance(server := servers[0], Address) or "://" in incomplete:
        return []
    directory, slash, begun = incomplete.rpartition("/")
    only_directories = bool(context.params.get("list_"))

    def choose(entries: Iterator[Listed]) -> list[str]:
        names = (_offered(entry) for entry in entries if entry.data.kind == "dir" or not only_directories)
        fitting = (name for name in names if name.startswith(begun) and _is_safe(name, first=not slash, begun=begun))
        return list(islice(fitting, MOST_NAMES + 1))

    try:
        listed = parse_location(os.fsencode(directory) or b"/", server).name
    except ValueError:
        return []
    names = peek(server, listed, WITHIN_S, choose) or []
    if len(names) > MOST_NAMES:
        return []
    return [CompletionItem(directory + slash + name) for name in sorted(set(names))]


def _offered(entry: Listed) -> str:
    return decode(entry.name.rpartition(b"/")[2]) + ("/" if entry.data.kind == "dir" else "")


def _is_safe(name: str, *, first: bool, begun: str) -> bool:
    """Return whether neither a shell nor a reader mistakes ``name`` for something else.

    ``first``: the name begins the word. ``begun`` is the part of the name that the user has typed.
    """
    if name.startswith(".") and not begun:
        return False
    # A dash would begin an option, a tilde a home directory.
    if first and name.startswith(("-", "~")):
        return False
    return escape(name) == name.replace("\\", "\\\\")


def _open_quote(line: str) -> str:
    """Return the quotation mark that ``line`` opens and does not close, or an empty string."""
    for quote in ("", '"'):
        with contextlib.suppress(ValueError):
            shlex.split(f"{line}x{quote}")
            return quote
    return "'"


def _quoted(text: str, quote: str) -> str:
    """Return ``text`` as bash must read it behind the open quotation mark ``quote``."""
    if quote == "'":
        return text.replace("'", r"'\''")
    if quote == '"':
        # Between double quotes, a backslash does not keep bash from history expansion of an exclamation mark.
        return re.sub(r'([$`"\\])', r"\\\1", text).replace("!", r'"\!"')
    return re.sub(r"([^\w./,+%-])", r"\\\1", text)


def _words(line: str) -> list[str]:
    """Split ``line`` into words as a shell does. The last word ends where the line ends, and may be empty."""
    *before, last = split_arg_string(line + "x")
    return [*before, last[:-1]]

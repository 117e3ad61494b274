"""Completion of the command line by a shell: options, local files, and names on the server. Runs at the user's.

Bash, zsh and fish ask ``fsget`` itself, through click, for what may stand at the cursor. A name on the server is
whatever somebody liked to call a file: none that could deceive, or that has a line feed, is offered, none is ever
evaluated by a shell, and what a shell inserts it quotes itself.
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
    FishComplete,
    ShellComplete,
    ZshComplete,
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
"""Of more that fit none is offered: it could seem to be the only one."""


class _Bash(BashComplete):
    """Takes the line up to the cursor; COMP_WORDS would have the words cut at colons and equals signs.

    Bash replaces only what follows the last of those, which it gives as ``$2``. We quote what it inserts: with
    ``-o filenames`` it would, but leaves ``$HOME`` and parts of ``$(...)`` as they are.
    """

    source_template = """\
%(complete_func)s() {
    local item answer
    mapfile -t answer < <(
        env %(complete_var)s=bash_complete COMP_WORDS="${COMP_LINE:0:COMP_POINT}" COMP_CWORD="$2" "$1" 2>/dev/null
    )
    COMPREPLY=()
    for item in "${answer[@]}"; do
        case $item in
            dir,*) compopt -o dirnames ;;
            file,*) compopt -o default ;;
            plain,*) COMPREPLY+=("${item#*,}") ;;
        esac
    done
    if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == */ ]]; then
        compopt -o nospace
    fi
}

complete -F %(complete_func)s %(prog_name)s
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


class _Zsh(ZshComplete):
    """No space after a directory. ``compadd`` quotes."""

    source_template = """\
#compdef %(prog_name)s

%(complete_func)s() {
    local -a answer names directories options
    local type value help
    answer=("${(@f)$(env COMP_WORDS="${words[*]}" COMP_CWORD=$((CURRENT-1)) \\
%(complete_var)s=zsh_complete "${words[1]}" 2>/dev/null)}")
    for type value help in "${answer[@]}"; do
        case $type in
            dir) _files -/ ;;
            file) _files ;;
            plain)
                if [[ $help != _ ]]; then
                    options+=("$value:$help")
                elif [[ $value == */ ]]; then
                    directories+=("$value")
                else
                    names+=("$value")
                fi ;;
        esac
    done
    (( $#options )) && _describe option options
    (( $#directories )) && compadd -S '' -a directories
    (( $#names )) && compadd -a names
}

if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    %(complete_func)s "$@"
else
    compdef %(complete_func)s %(prog_name)s
fi
"""


class _Fish(FishComplete):
    """Fish leaves no space after a slash, and quotes."""

    source_template = """\
function %(complete_func)s
    set -l words (commandline -cp)
    set -l word (commandline -ct)
    for item in (env %(complete_var)s=fish_complete COMP_WORDS="$words" COMP_CWORD="$word" %(prog_name)s 2>/dev/null)
        set -l parts (string split -m 1 , -- $item)
        switch $parts[1]
            case dir
                __fish_complete_directories "$word"
            case file
                __fish_complete_path "$word"
            case plain
                printf '%%s\\n' $parts[2]
        end
    end
end

complete --no-files --command %(prog_name)s --arguments "(%(complete_func)s)"
"""


_SHELLS: dict[str, type[ShellComplete]] = {"bash": _Bash, "zsh": _Zsh, "fish": _Fish}


def register() -> None:
    """Have click answer the shells with the classes above."""
    for shell in _SHELLS.values():
        add_completion_class(shell)


def script(shell: str, command: click.Command) -> str:
    """What ``shell``, one of bash, zsh and fish, is to evaluate to complete ``command``."""
    return _SHELLS[shell](command, {}, "fsget", "_FSGET_COMPLETE").source()


def remote_names(context: click.Context, incomplete: str) -> list[CompletionItem[str]]:
    """Names on the server that begin with ``incomplete``, directories with a slash; none if the server cannot tell."""
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
    """Whether ``name`` means itself and nothing else; ``first``: it begins the word."""
    if name.startswith(".") and not begun:
        return False
    # The one would be taken for an option, the other for somebody's home directory.
    if first and name.startswith(("-", "~")):
        return False
    return escape(name) == name.replace("\\", "\\\\")


def _open_quote(line: str) -> str:
    """The quotation mark that ``line`` opens and does not close, or nothing."""
    for quote in ("", '"'):
        with contextlib.suppress(ValueError):
            shlex.split(f"{line}x{quote}")
            return quote
    return "'"


def _quoted(text: str, quote: str) -> str:
    """``text`` for bash, to stand after ``quote``."""
    if quote == "'":
        return text.replace("'", r"'\''")
    if quote == '"':
        # Between quotation marks a backslash does not keep bash from replacing an exclamation mark.
        return re.sub(r'([$`"\\])', r"\\\1", text).replace("!", r'"\!"')
    return re.sub(r"([^\w./,+%-])", r"\\\1", text)


def _words(line: str) -> list[str]:
    """The words of a line as a shell takes them; the last is the one that ends with it, perhaps an empty one."""
    *before, last = split_arg_string(line + "x")
    return [*before, last[:-1]]

"""Completion of the command line: what is offered to a shell, and what bash, zsh and fish make of it."""

from __future__ import annotations

import fcntl
import itertools
import os
import pty
import select
import shutil
import struct
import subprocess
import sys
import termios
import time

import pytest

from forkserver.client.command.completion import MOST_NAMES

PATIENCE_S = 20
EVIL = "evil $(touch pwned) `touch pwned`;touch pwned \"'!&|>*{a,b}\\"


def listing(*names: bytes, directories: tuple[bytes, ...] = ()) -> bytes:
    entries = [b"file %s size=1 mtime=1624000000.000000000 mode=644 etag=e-1\n" % name for name in names]
    entries += [b"dir %s mtime=1624000000.000000000 mode=755\n" % name for name in directories]
    return b"".join(entries) + b"FS1 END ok entries=%d\n" % len(entries)


@pytest.fixture
def offers(fsget, environment):
    """What is offered for a line, as bash is told it, where it replaces ``word``."""

    def ask(line: str, word: str = "", **variables: str) -> list[str]:
        asked = {"_FSGET_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": word}
        result = fsget(env={**environment, **asked, **variables})
        assert result.status == 0
        return [offer for offer in result.out.splitlines() if offer]

    return ask


@pytest.fixture
def lists(lying_server, says):
    """A server that answers one connection with a listing; gives its address."""

    def start(*names: bytes, directories: tuple[bytes, ...] = ()) -> str:
        return lying_server([says.ask, says.directory, listing(*names, directories=directories)]).address

    return start


def test_options_and_their_values_are_offered(offers):
    assert offers("fsget --rec", "--rec") == ["plain,--recursive"]
    assert offers("fsget --completion z", "z") == ["plain,zsh"]
    assert offers("fsget -d x", "x") == ["dir,x"]
    assert offers("fsget -o x", "x") == ["file,x"]


def test_names_of_the_server_on_the_line_are_offered(offers, lists):
    address = lists(b"/reports/two%20words", b"/reports/other", directories=(b"/reports/tax",))
    assert offers(f"fsget -s {address} reports/t", "reports/t", FSGET_SERVER="127.0.0.1:1") == [
        "plain,reports/tax/",
        r"plain,reports/two\ words",
    ]


def test_the_server_may_be_that_of_the_environment_or_of_the_file(offers, lists, environment):
    assert offers("fsget ", FSGET_SERVER=lists(b"/f")) == ["plain,f"]
    os.mkdir(environment["XDG_CONFIG_HOME"])
    with open(os.path.join(environment["XDG_CONFIG_HOME"], "fsget.toml"), "w", encoding="ascii") as file:
        file.write(f'server = "{lists(b"/g")}"')
    assert offers("fsget ") == ["plain,g"]


@pytest.mark.parametrize("option", ["-c", "--checksum"])
def test_names_are_offered_after_an_option_that_needs_no_value(offers, lists, option):
    assert offers(f"fsget {option} ", FSGET_SERVER=lists(b"/f")) == ["plain,f"]


def test_hidden_names_are_offered_after_a_dot(offers, lists):
    names = (b"/.hidden", b"/seen")
    assert offers("fsget ", FSGET_SERVER=lists(*names)) == ["plain,seen"]
    assert offers("fsget .", ".", FSGET_SERVER=lists(*names)) == ["plain,.hidden"]


def test_only_directories_are_offered_to_be_listed(offers, lists):
    assert offers("fsget --list ", FSGET_SERVER=lists(b"/f", directories=(b"/d",))) == ["plain,d/"]


def test_names_that_deceive_or_would_be_something_else_are_not_offered(offers, lists):
    odd = (b"/a%1B[31m", b"/a%0Aplain,b", b"/a%FF", b"/a%E2%80%AEfdp", b"/a%C2%9B", b"/-o", b"/~root", b"/a")
    assert offers("fsget ", FSGET_SERVER=lists(*odd)) == ["plain,a"]


def test_bash_gets_what_follows_its_word_break_in_the_quotation_that_is_open(offers, lists):
    assert offers("fsget a:b", "b", FSGET_SERVER=lists(b"/a:b=$c")) == [r"plain,b\=\$c"]
    assert offers("fsget a:", "", FSGET_SERVER=lists(b"/a:b")) == ["plain,b"]
    assert offers("fsget a\\ ", "a\\ ", FSGET_SERVER=lists(b"/a%20b")) == [r"plain,a\ b"]
    assert offers('fsget "a ', "a ", FSGET_SERVER=lists(b"/a%20%22$!")) == [r'plain,a \"\$"\!"']
    assert offers("fsget 'a", "a", FSGET_SERVER=lists(b"/a'$")) == [r"plain,a'\''$"]


@pytest.mark.parametrize(
    "line",
    [
        "fsget -s 127.0.0.1:1 x",
        "fsget -s 127.0.0.1:x x",
        "fsget --config nonsense x",
        "fsget x" + "x" * 9000,
        "fsget fs://127.0.0.1:1/x",
        "fsget a//x",
    ],
)
def test_what_cannot_be_asked_is_passed_over(offers, line):
    assert offers(line, line.rpartition(" ")[2], FSGET_SERVER="127.0.0.1:1") == []


def trickle():
    for byte in itertools.cycle(b"file /x size=1 "):
        time.sleep(0.05)
        yield bytes([byte])


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param([b"FS1 503 busy pid=1 start=0.0\n"], id="busy"),
        pytest.param([b"SSH-2.0-x\r\n"], id="no-forkserver"),
        pytest.param(["ask", "not_found"], id="not-found"),
        pytest.param(["ask", "directory", listing(b"/x")[:-25]], id="broken-off"),
        pytest.param(["hold"], id="silent"),
        pytest.param(itertools.chain(["ask", "directory"], trickle()), id="trickling"),
        pytest.param(itertools.chain(["ask", "directory"], itertools.repeat(b"dir /x mtime=")), id="endless-line"),
    ],
)
def test_a_server_that_does_not_tell_is_passed_over_in_time(offers, lying_server, says, answer):
    server = lying_server(getattr(says, step) if isinstance(step, str) else step for step in answer)
    started = time.monotonic()
    assert offers("fsget ", FSGET_SERVER=server.address) == []
    assert time.monotonic() - started < 5


def test_of_names_without_number_none_is_offered(offers, lying_server, says):
    page = listing(*(b"/x%d" % number for number in range(1000))).partition(b"FS1")[0]
    pages = itertools.chain([says.ask, says.directory], itertools.repeat(page, MOST_NAMES // 1000 + 1), [says.hold])
    assert offers("fsget ", FSGET_SERVER=lying_server(pages).address) == []


SHELLS = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], 'eval "$(fsget --completion bash)"; PS1="REA""DY "'),
    "zsh": (
        ["zsh", "-f", "-i"],
        'autoload -Uz compinit; compinit -D; eval "$(fsget --completion zsh)"; PS1="REA""DY "',
    ),
    "fish": (
        ["fish", "--no-config", "-i"],
        'fsget --completion fish | source; function fish_prompt; printf "REA"; printf "DY "; end',
    ),
}


class Shell:
    """A shell on a terminal, in which somebody types."""

    def __init__(self, name: str, place, environment: dict[str, str]) -> None:
        command, setup = SHELLS[name]
        self._master, terminal = pty.openpty()
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 250, 0, 0))
        self.seen = b""
        self._process = subprocess.Popen(
            ["setsid", "--ctty", *command], stdin=terminal, stdout=terminal, stderr=terminal, cwd=place, env=environment
        )
        os.close(terminal)
        self.type(setup + "\n", "READY ")

    def type(self, keys: str, expected: str) -> None:
        """Type ``keys``, and wait until what is shown after them has ``expected``."""
        self.seen = b""
        os.write(self._master, keys.encode())
        deadline = time.monotonic() + PATIENCE_S
        while expected.encode() not in self.seen:
            ready, _, _ = select.select([self._master], [], [], max(0, deadline - time.monotonic()))
            assert ready, self.seen
            self.seen += os.read(self._master, 65536)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._master)


@pytest.fixture(params=SHELLS)
def shell(request, tmp_path, place, environment, serve):
    """A shell that knows ``fsget``, and a server."""
    if shutil.which(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    server = serve()
    program = tmp_path / "bin" / "fsget"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m forkserver.client "$@"\n')
    program.chmod(0o755)
    home = tmp_path / "home"
    home.mkdir()
    ours = {"PATH": f"{program.parent}:{environment['PATH']}", "HOME": str(home), "TERM": "xterm"}
    typing = Shell(request.param, place, {**environment, **ours, "FSGET_SERVER": f"{server.host}:{server.port}"})
    yield typing
    typing.close()


def test_a_name_full_of_commands_is_fetched_and_none_of_them_run(shell, root, place):
    (root / EVIL).write_bytes(b"x")
    for quote in ("", '"', "'"):
        shell.type(f"fsget --stat {quote}evi\t", "pwned")
        shell.type("\n", "1 byte")
    shell.type("fsget evi\t", "pwned")
    shell.type("\n", "verified")
    assert os.listdir(place) == [EVIL]


def test_a_directory_is_completed_without_a_space_and_what_is_in_it_after_it(shell, root, place):
    (root / "reports").mkdir()
    (root / "reports" / "two words:=.txt").write_bytes(b"x")
    shell.type("fsget rep\t", "orts/")
    shell.type("tw\t", "words")
    shell.type("\n", "verified")
    assert os.listdir(place) == ["two words:=.txt"]
    shell.type("fsget --stat rep\t", "orts/")
    shell.type("\n", "reports/: directory")


def test_options_are_completed(shell):
    shell.type("fsget --vers\t", "ion")
    shell.type("\n", "fsget ")

"""The configuration file: what overrides what, and one line for each way to be wrong."""

from __future__ import annotations

import os
import tempfile
import tomllib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forkserver.errors import OperatorError
from forkserver.front import configfile
from forkserver.settings import FIELDS, Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from forkserver.settings import Value

    Write = Callable[[str | bytes], str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_file(content: str | bytes) -> str:
        path = tmp_path / "forkserver.toml"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    return write_file


def complaint(path: str | None, options: dict[str, Value] | None = None) -> str:
    """The one line of the OperatorError that loading raises."""
    with pytest.raises(OperatorError) as caught:
        configfile.load(path, options or {})
    line = str(caught.value)
    assert line.isprintable(), line
    return line


def test_without_file_and_options_the_defaults_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert configfile.load(None, {}).encode() == Settings(root=str(tmp_path)).encode()


def test_options_override_the_file_and_the_file_the_defaults(write: Write) -> None:
    path = write("port = 81\nspare = 3\nhidden = true\nbind = ['::1', '127.0.0.1:82']\nrequest_s = 5\n")
    settings = configfile.load(path, {"spare": 4, "hidden": False})
    assert (settings.port, settings.spare, settings.hidden, settings.request_s) == (81, 4, False, 5.0)
    assert settings.bind == ("::1", "127.0.0.1:82")
    assert settings.max_children == FIELDS["max_children"].default


def test_an_option_saves_a_file_whose_value_is_wrong(write: Write) -> None:
    assert configfile.load(write("port = 'x'\n"), {"port": 81}).port == 81


def test_a_relative_root_starts_where_it_is_named(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    for directory in (tmp_path / "data", elsewhere / "data"):
        directory.mkdir(parents=True)
    monkeypatch.chdir(elsewhere)
    path = write("root = 'data'\n")
    assert configfile.load(path, {}).root == str(tmp_path / "data")
    assert configfile.load(os.path.relpath(path), {}).root == str(tmp_path / "data")
    assert configfile.load(path, {"root": "data"}).root == str(elsewhere / "data")


@pytest.mark.parametrize(
    ("content", "line", "parts"),
    [
        pytest.param("a = 1\nport = \n", 2, ["is not TOML: ", "Invalid value"], id="not-toml"),
        pytest.param("port = 1\n\nport = 2\n", 3, ["is not TOML: "], id="key-twice"),
        pytest.param("port = 1\nx = '''\n\n", 2, ["is not TOML: "], id="string-without-end"),
        pytest.param(b"port = 1\n# \xff\n", 2, ["byte 0xff is not UTF-8", "save the file"], id="not-utf-8"),
        pytest.param("x = " + "9" * 5000, 1, ["is not TOML: "], id="endless-number"),
        pytest.param("x = " + "[" * 50000, 1, ["is not TOML: "], id="endless-brackets"),
        pytest.param(
            "\n#\nmax-children = 1\n",
            3,
            ["max-children: there is no such setting; did you mean max_children?"],
            id="close-key",
        ),
        pytest.param("prot = 2057", 1, ["prot: there is no such setting; did you mean port?"], id="letters-swapped"),
        pytest.param("zzz = 1", 1, ["zzz: there is no such setting; forkserver.toml(5)"], id="far-key"),
        pytest.param("'a\\nb' = 1", 1, ["a\\\\nb: there is no such setting"], id="key-to-be-escaped"),
        pytest.param('"\\u001b" = 1', 1, ["\\x1b: there is no such setting"], id="key-that-cannot-be-printed"),
        pytest.param("port = 1\n\n[server]\nport = 2", 3, ["server: there is no such setting"], id="table"),
        pytest.param("port = '80'", 1, ["port: must be a whole number, not '80'"], id="string-for-number"),
        pytest.param("port = 80.0", 1, ["port: must be a whole number, not 80.0"], id="float-for-number"),
        pytest.param("hidden = 1", 1, ["hidden: must be true or false, not 1"], id="number-for-bool"),
        pytest.param("root = true", 1, ["root: must be a string, not True"], id="bool-for-string"),
        pytest.param("bind = '::1'", 1, ["bind: must be a list of strings, not '::1'"], id="string-for-list"),
        pytest.param("bind = '127.0.0.1'", 1, ["'127.0.0.1'; write [\"127.0.0.1\"]"], id="string-for-list-remedy"),
        pytest.param("bind = [5]", 1, ["bind: must be a list of strings, not [5]"], id="list-of-numbers"),
        pytest.param("port = 2020-02-02", 1, ["port: must be a whole number, not datetime"], id="date"),
        pytest.param("port = 65536", 1, ["port: 65536 is out of bounds; it must be from 0 to 65535"], id="high"),
        pytest.param("\nport = -1", 2, ["port: -1 is out of bounds"], id="low"),
        pytest.param("stall_s = nan", 1, ["stall_s: nan is out of bounds"], id="nan"),
        pytest.param(f"stall_s = 0x{'f' * 9000}", 1, ["stall_s: the number is too large"], id="endless-hex-number"),
        pytest.param("max_children = 2\nspare = 3", 2, ["spare: 3 is more than max_children, 2"], id="pair"),
        pytest.param("bind = []", 1, ["bind: must name at least one address"], id="no-address"),
        pytest.param("port = 1\nbind = [\n  '::1',\n  'x:y',\n]", 2, ["bind: x:y: the port must be"], id="address"),
        pytest.param("bind = ['::1', '[::1]:2057']", 1, ["bind: [::1]:2057: is the same address as ::1"], id="twice"),
        pytest.param("root = ''", 1, ["root: must not be empty"], id="empty-root"),
        pytest.param("root = '/nowhere/at/all'", 1, ["root: /nowhere/at/all: does not exist; create it"], id="no-root"),
        pytest.param(
            "root = '/dev/null'",
            1,
            ["root: /dev/null: is not a directory; name another directory"],
            id="root-is-a-file",
        ),
        pytest.param("root = '/dev/null/x'", 1, ["root: /dev/null/x: cannot be looked at"], id="root-in-a-file"),
        pytest.param('root = "/\\u001b[31m\\u202e"', 1, ["root: /\\x1b[31m\\u202e: does not exist"], id="evil-root"),
        pytest.param("port = 1\r\nport = 2\r\n", 2, ["is not TOML"], id="crlf"),
        pytest.param("spare = 0 # \u2028\x85\nx = 1", 2, ["x: there is no such setting"], id="odd-line-ends"),
    ],
)
def test_complaints_name_file_line_setting_and_remedy(
    write: Write, content: str | bytes, line: int, parts: list[str]
) -> None:
    path = write(content)
    text = complaint(path)
    assert text.startswith(f"{path}:{line}: "), text
    for part in parts:
        assert part in text


def test_any_number_of_lines_before_a_key_is_counted(write: Write) -> None:
    head = 'root = "."\n\n# port = 1\nbind = [\n  "::1", # port = 2\n]\n'
    assert ":7: port: " in complaint(write(head + "port = [\n1,\n2]\nspare = 1\n"))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"port": 70000}, "--port: 70000 is out of bounds; it must be from 0 to 65535"),
        ({"max_per_peer": -1}, "--max-per-peer: -1 is out of bounds; it must be from 0 to 32768"),
        ({"max_children": 2, "spare": 3}, "--spare: 3 is more than max_children, 2; lower it"),
        ({"bind": ("a:b",)}, "--bind: a:b: the port must be a number from 0 to 65535"),
        ({"bind": ("::1", "::1")}, "--bind: ::1: is the same address as ::1; name it once"),
        ({"root": "/nowhere"}, "--root: /nowhere: does not exist; create it, or name another directory"),
    ],
)
def test_complaints_about_options_name_the_option(options: dict[str, Value], text: str) -> None:
    assert complaint(None, options) == text


@pytest.fixture
def no_one() -> Iterator[str]:
    """A directory that an ordinary user owns the way to; its mode is the test's. The test runs as that user."""
    # Not beneath tmp_path, whose parents only its owner may enter.
    directory = tempfile.mkdtemp()
    user = os.geteuid()
    try:
        if user == 0:
            os.seteuid(65534)
        yield directory
    finally:
        os.seteuid(user)
        os.rmdir(directory)


def chmod_as_owner(path: str, mode: int) -> None:
    user = os.geteuid()
    os.seteuid(os.getuid())
    os.chmod(path, mode)
    os.seteuid(user)


def test_a_root_this_user_may_not_enter_is_told(no_one: str) -> None:
    chmod_as_owner(no_one, 0o644)
    remedy = "give this user its x permission, or name another directory"
    assert complaint(None, {"root": no_one}) == f"--root: {no_one}: this user may not enter it; {remedy}"


def test_a_root_that_can_be_entered_and_not_listed_is_fine(no_one: str) -> None:
    chmod_as_owner(no_one, 0o311)
    assert configfile.load(None, {"root": no_one}).root == no_one


def test_any_free_port_may_be_asked_for_twice() -> None:
    assert configfile.load(None, {"bind": ("::1", "::1"), "port": 0}).bind == ("::1", "::1")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    assert complaint(str(tmp_path / "no\n")) == (
        f"{tmp_path}/no\\n: cannot read it: No such file or directory; name another file with --config"
    )
    assert "cannot read it: Is a directory" in complaint(str(tmp_path))
    assert "its name holds a NUL" in complaint("a\0b")
    assert "is longer than 65536 bytes" in complaint("/dev/zero")


def test_a_file_of_the_longest_length_is_read(write: Write) -> None:
    assert configfile.load(write("port = 1\n#" + "x" * (configfile.MAX_FILE_BYTES - 10)), {}).port == 1
    assert "is longer than" in complaint(write("port = 1\n#" + "x" * (configfile.MAX_FILE_BYTES - 9)))


@given(text=st.text(alphabet="=[]{}'\"\\\n\r\t\0#.,-+_ port1efnx\x7f\x85\u2028\ud800"))
def test_any_text_is_a_configuration_or_an_operator_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_text(text, encoding="utf-8", errors="replace", newline="")
    try:
        configfile.load(str(path), {})
    except OperatorError as error:
        assert str(error).isprintable()


@given(st.text(alphabet=st.characters(exclude_characters="\0\r\n", exclude_categories=["Cs"]), min_size=1))
def test_any_root_survives_the_file(root: str) -> None:
    assert tomllib.loads(configfile.dump(Settings(root=root)))["root"] == root


def test_what_is_dumped_is_loaded(write: Write, tmp_path: Path) -> None:
    root = tmp_path / 'a"b\\c\t\x7f\u00fc\U0001f600'
    root.mkdir()
    settings = Settings(root=str(root), bind=("[::1]:7", "localhost"), request_s=0.1, drain_s=1e-9, hidden=True)
    assert configfile.load(write(configfile.dump(settings)), {}).encode() == settings.encode()


def test_a_derived_number_is_told_in_the_comment_and_not_frozen() -> None:
    settings = Settings(max_children=64)
    head, derived = configfile.dump(settings).split("\nmax_per_peer = 0\n")[0].rsplit("; in effect: ", 1)
    assert (head.splitlines()[-1], derived) == (f"# {FIELDS['max_per_peer'].meaning}", "32")


def test_each_dumped_setting_stands_under_its_meaning() -> None:
    lines = configfile.dump(Settings(max_per_peer=1)).splitlines()
    for name, field in FIELDS.items():
        place = lines.index(f"# {field.meaning}")
        assert lines[place + 1].startswith(f"{name} = ")


def test_a_root_no_file_can_hold_is_refused_by_dump() -> None:
    with pytest.raises(OperatorError, match=r"^root: /\\udcff: is not UTF-8"):
        configfile.dump(Settings(root="/\udcff"))

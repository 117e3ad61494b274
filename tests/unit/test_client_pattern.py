"""Patterns of names, and which names of a tree are wanted."""

from __future__ import annotations

import fnmatch
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forkserver.client.fetch.pattern import Filter, compile_path, fixed_part, is_pattern


@pytest.mark.parametrize(
    ("pattern", "taken", "left"),
    [
        (b"a/*.pdf", [b"a/x.pdf"], [b"a/b/x.pdf", b"a/x.pdfx", b"x.pdf", b"a/x_pdf", b"a/.pdf"]),
        (b"a?", [b"ab", b"a\n", b"a\xff"], [b"a", b"a/", b"abc"]),
        (b"[a-c]x", [b"ax", b"cx"], [b"dx", b"-x", b"[a-c]x"]),
        (b"[!a-c]x", [b"dx", b"-x", b"!x"], [b"ax", b"/x", b"x"]),
        (b"[]]x", [b"]x"], [b"x"]),
        (b"[x-]", [b"x", b"-"], [b"y"]),
        (b"[a", [b"[a"], [b"a"]),
        (b"[c-a]", [], [b"a", b"b", b"c"]),
        (b"a[/]b", [], [b"a/b"]),
        (b"**/x", [b"x", b"a/x", b"a/b/x"], [b"xx", b"a/xx", b"/x"]),
        (b"a/**", [b"a/b", b"a/b/c"], [b"a", b"ab", b"a/"]),
        (b"a/**/b", [b"a/b", b"a/x/b", b"a/x/y/b"], [b"a", b"ab", b"a/xb"]),
        (b"a**b", [b"ab", b"axb"], [b"a/b"]),
        (b"a.b", [b"a.b"], [b"axb"]),
        (b"*", [b"a", b"a.b"], [b".a", b"a/b"]),
        (b".*", [b".a"], [b"a"]),
        (b"**", [b"a", b"a/b"], [b".a", b"a/.b", b".a/b"]),
        (b"**/.*", [b".a", b"a/.b"], [b".a/.b", b"a"]),
        (b"\\*", [b"\\x"], [b"*"]),
    ],
)
def test_a_pattern_takes_what_a_shell_would_take(pattern, taken, left):
    expression = compile_path(pattern)
    assert [path for path in taken if not expression.fullmatch(path)] == []
    assert [path for path in left if expression.fullmatch(path)] == []


@given(st.text("ab*?[]!-."), st.text("ab]!-."))
def test_without_slashes_a_pattern_is_that_of_fnmatch_but_for_dots(pattern, name):
    wanted = re.match(fnmatch.translate(pattern), name) is not None
    if pattern != "**":  # which stands for no empty component
        assert (compile_path(pattern.encode(), dots=True).fullmatch(name.encode()) is not None) == wanted


@pytest.mark.parametrize(
    ("pattern", "directory", "deeper"),
    [
        (b"/*.pdf", b"", False),
        (b"/a/b/*.pdf", b"/a/b", False),
        (b"/a/*/c", b"/a", True),
        (b"/a/**", b"/a", True),
        (b"/**/a", b"", True),
    ],
)
def test_the_directory_to_be_listed_is_the_part_of_a_pattern_that_is_fixed(pattern, directory, deeper):
    assert fixed_part(pattern) == (directory, deeper)


def test_a_name_is_a_pattern_only_if_something_in_it_stands_for_something_else():
    assert [name for name in (b"a", b"a.b", b"a]", b"a*", b"a?", b"a[1]") if is_pattern(name)] == [
        b"a*",
        b"a?",
        b"a[1]",
    ]


def test_without_patterns_everything_is_wanted():
    everything = Filter()
    assert everything.wants_file(b"a/b")
    assert everything.wants_directory(b"a")


def test_a_pattern_without_a_slash_is_for_the_last_component_and_one_with_a_slash_for_the_whole_path():
    pdfs = Filter(include=(b"*.pdf", b"/top.txt", b"a/*.log"))
    wanted = [b"x.pdf", b"a/b/x.pdf", b"top.txt", b"a/x.log"]
    assert [path for path in wanted if not pdfs.wants_file(path)] == []
    assert [path for path in (b"a/top.txt", b"x.log", b"b/a/x.log") if pdfs.wants_file(path)] == []
    assert not pdfs.wants_directory(b"a")


def test_what_lies_in_an_excluded_directory_is_excluded():
    chosen = Filter(exclude=(b".git/", b"a/tmp", b"*.o"))
    unwanted = [b".git/x", b"sub/.git/y/z", b"a/tmp/x", b"a/x.o", b".git"]
    assert [path for path in unwanted if chosen.wants_file(path) or chosen.wants_directory(path)] == []
    assert [path for path in (b"tmp/x", b"b/a/tmp/x", b"x.c") if not chosen.wants_file(path)] == []


def test_an_exclude_outweighs_an_include():
    assert not Filter(include=(b"*.pdf",), exclude=(b"draft*",)).wants_file(b"draft1.pdf")


def test_a_filter_does_not_care_for_dots():
    assert compile_path(b"*.pdf", dots=True).fullmatch(b".pdf")
    assert compile_path(b"a/**", dots=True).fullmatch(b"a/.b/c")

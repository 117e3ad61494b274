"""Local names that are taken, and what of a listing is for nobody."""

from __future__ import annotations

import os

from forkserver.client.local.names import Names, folds_case


def test_a_path_is_for_one_file():
    names = Names()
    assert names.claim(b"a", "one", is_directory=False)
    assert names.claim(b"a", "one", is_directory=False), "listed twice"
    assert not names.claim(b"a", "other", is_directory=False)
    assert names.claim(b"A", "other", is_directory=False)
    assert b"a" in names
    assert b"b" not in names


def test_a_directory_may_be_made_for_several_but_not_for_a_file():
    names = Names()
    assert names.claim(b"a", "one", is_directory=True)
    assert names.claim(b"a", "other", is_directory=True)
    assert not names.claim(b"a", "file", is_directory=False)


def test_where_case_makes_no_difference_it_makes_none_here():
    names = Names(folds_case=True)
    assert names.claim("Stra\u00dfe".encode(), "one", is_directory=False)
    assert not names.claim(b"STRASSE", "other", is_directory=False)
    assert names.claim(b"dir", "one", is_directory=True)
    assert not names.claim(b"DIR", "other", is_directory=True), "two directories would become one"
    assert b"DiR" in names
    assert names.claim(b"\xff", "any", is_directory=False), "no text"


def test_a_usual_file_system_tells_names_that_differ_in_case_apart(tmp_path):
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        assert not folds_case(fd)
    finally:
        os.close(fd)
    assert os.listdir(tmp_path) == []

"""Names in bounded memory: what lies in a file behaves as what lies in memory."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forkserver.client.fetch.seen import Seen
from forkserver.client.local.hashtable import HashTable
from forkserver.client.local.names import Names

NUMBERS = st.integers(-(2**63), 2**63 - 1)
# Keys that crowd in the same slots, the last among them, which the first slot follows.
CROWDED = st.sampled_from([number << 40 | low for number in range(1, 20) for low in (0, 31, 63, 1023)])


@given(st.lists(st.tuples(st.booleans(), NUMBERS | CROWDED, NUMBERS), max_size=200), st.integers(0, 20))
def test_a_table_in_a_file_behaves_as_a_dictionary(steps, most_in_memory):
    table, model = HashTable(most_in_memory), dict[int, int]()
    for adds, number, value in steps:
        key = number or 1
        if adds:
            assert table.setdefault(number, value) == model.setdefault(key, value)
        else:
            assert table.get(number) == model.get(key)
        assert len(table) == len(model)
    assert {key: table.get(key) for key in model} == model


def test_a_table_grows_far_beyond_its_first_file():
    table = HashTable(10)
    for number in range(20_000):
        assert table.setdefault(hash(b"%d" % number), number) == number
    assert len(table) == 20_000
    assert all(table.get(hash(b"%d" % number)) == number for number in range(20_000))
    assert table.get(hash(b"none")) is None


@pytest.fixture(params=["in memory", "in a file"])
def _size(request, monkeypatch):
    if request.param == "in a file":
        monkeypatch.setattr(HashTable.__init__, "__defaults__", (3,))


@pytest.mark.usefixtures("_size")
def test_few_and_many_names_are_told_apart_alike():
    names = Names()
    for number in range(100):
        path = b"%d" % number
        assert names.claim(path, "one", is_directory=False)
        assert names.claim(path, "one", is_directory=False), "listed twice"
        assert not names.claim(path, "other", is_directory=False)
        assert path in names
    names.leave_alone(b"left/alone")
    for number in range(5):
        names.leave_alone(b"other/%d" % number)
    assert b"left/alone/beneath" in names
    assert b"left/beside" not in names
    assert b"none" not in names


@pytest.mark.usefixtures("_size")
def test_few_and_many_names_are_seen_alike():
    seen = Seen()
    for number in range(100):
        seen.add(b"%d" % number)
        assert not seen.before(b"%d" % number), "in this listing"
    seen.begin_anew()
    for number in range(100, 200):
        seen.add(b"%d" % number)
    assert [number for number in range(300) if seen.before(b"%d" % number)] == list(range(100))
    seen.begin_anew()
    assert [number for number in range(300) if seen.before(b"%d" % number)] == list(range(200))

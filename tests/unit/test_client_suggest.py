"""Which names are close to one that does not exist."""

from __future__ import annotations

import pytest

from forkserver.client.command.suggest import MOST_SUGGESTIONS, close_names


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        pytest.param("Tax.PDF", "tax.pdf", id="case"),
        pytest.param("atx.pdf", "tax.pdf", id="transposition"),
        pytest.param("tax.pfd", "tax.pdf", id="transposed-extension"),
        pytest.param("tax", "tax.pdf", id="no-extension"),
        pytest.param("backup", "backup.tar.gz", id="no-extensions"),
        pytest.param("tax.txt", "tax.pdf", id="other-extension"),
        pytest.param("taxlaw.pdf", "tax law.pdf", id="space"),
        pytest.param("raeport", "report", id="one-too-many"),
        pytest.param("GRÜSSE", "grüße", id="casefold"),
    ],
)
def test_a_slip_is_recognised(asked, meant):
    assert close_names(asked.encode(), [b"zzz", meant.encode(), b"unrelated.doc"]) == [meant.encode()]


@pytest.mark.parametrize("asked", ["a.txt", "nofile.pdf", "x", "reports/tax.pdf"])
def test_what_is_far_is_not_suggested(asked):
    assert close_names(asked.encode(), [b"b.txt", b"summary.pdf", b"protocol.md", b".profile", b""]) == []


def test_the_closest_come_first_and_no_more_than_a_few():
    names = [b"report-1.pdf", b"report.txt", b"REPORT.pdf", b"report-2.pdf", b"report-3.pdf"]
    assert close_names(b"report.pdf", names) == [b"REPORT.pdf", b"report.txt", b"report-1.pdf"]
    assert len(close_names(b"report-4.pdf", names)) == MOST_SUGGESTIONS


def test_a_name_listed_twice_is_suggested_once():
    assert close_names(b"taxx", [b"tax", b"tax"]) == [b"tax"]


def test_the_name_itself_is_no_suggestion():
    assert close_names(b"tax.pdf", [b"tax.pdf"]) == []


def test_names_that_are_no_text_can_be_close():
    assert close_names(b"caf\xe9.txt", [b"Caf\xe9.txt"]) == [b"Caf\xe9.txt"]

"""The benchmark's bookkeeping, without a benchmark."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import pytest

from tests.bench import goals, report
from tests.bench.results import Results, Spread, restore
from tests.bench.workloads.rates import SMALL

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def results() -> Results:
    found = Results({"processors": "2"})
    for clients in (1, 16):
        for round_, factor in enumerate((1.0, 2.0, 3.0)):
            for server, rate in (("plain", 500.0), ("c-fork", 1000.0), ("vsftpd", 400.0)):
                values = {"rate": rate * factor, "p50_ms": 1.0, "p99_ms": 2.0, "errors": 0.0}
                found.add(SMALL, server, clients, round_, values)
    return found


def test_a_ratio_is_of_one_round(results: Results) -> None:
    assert results.ratio(SMALL, ("plain", 16), ("c-fork", 16), "rate") == Spread(0.5, 0.5, 0.5)
    assert results.spread(SMALL, "plain", 16, "rate") == Spread(1000, 500, 1500)
    assert results.ratio(SMALL, ("plain", 16), ("nginx", 16), "rate") is None


def test_goals_are_judged(results: Results) -> None:
    verdicts = {goal.text: goal.verdict for goal in goals.goals(results) if goal.measured}
    assert verdicts["a child per connection, 1 KiB, 16 clients, against C, fork per connection"] == "met"
    assert verdicts["a child per connection, 1 KiB, 16 clients, against vsftpd"] == "**missed**"
    assert verdicts["errors at 16 clients, all three settings"] == "reached"


def test_what_was_not_measured_is_out_of_bounds(results: Results) -> None:
    assert any("not measured" in line for line in goals.out_of_bounds(results))


def test_what_people_wrote_stays(results: Results, tmp_path: Path) -> None:
    document = tmp_path / "benchmarks.md"
    document.write_text(f"# Before\n\n{report.BEGIN}\nold\n{report.END}\n\nAfter.\n")
    report.write(results, document)
    first = document.read_text()
    assert first.startswith(f"# Before\n\n{report.BEGIN}\n")
    assert first.endswith(f"{report.END}\n\nAfter.\n")
    assert "old" not in first
    report.write(results, document)
    assert document.read_text() == first


def test_pictures_are_xml(results: Results, tmp_path: Path) -> None:
    report.write(results, tmp_path / "benchmarks.md")
    for name in ("rate.svg", "latency.svg"):
        assert ET.parse(tmp_path / "benchmarks" / name).getroot().tag.endswith("svg")


def test_a_run_can_be_kept(results: Results, tmp_path: Path) -> None:
    results.save(tmp_path / "run.json")
    assert report.text(restore(tmp_path / "run.json")) == report.text(results)

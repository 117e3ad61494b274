"""The document: tables, goals, pictures, between two marks; what people wrote around them stays."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.bench import plot
from tests.bench.goals import Goal, goals
from tests.bench.plan import BY_NAME, FULL
from tests.bench.results import Spread
from tests.bench.workloads.account import ACCOUNT, KINDS
from tests.bench.workloads.clients import FILE_CLIENTS, TREE_CLIENTS, Client
from tests.bench.workloads.discard import DISCARD
from tests.bench.workloads.fetches import FETCH, TREE, TREE_AGAIN
from tests.bench.workloads.idle import AFTER_A_REQUEST, IDLE
from tests.bench.workloads.rates import MEDIUM, SMALL
from tests.bench.workloads.slow import CROWD, SLOW

if TYPE_CHECKING:
    from pathlib import Path

    from tests.bench.results import Results

BEGIN = "<!-- From here to the next such line `python -m tests.bench` writes; change nothing by hand. -->"
END = "<!-- To here `python -m tests.bench` writes. -->"
_FRAME = f"# Benchmarks\n\n{BEGIN}\n{END}\n"


def write(results: Results, document: Path) -> None:
    """Put what was measured into the document, and the pictures into a folder beside it, of its name."""
    before, _, rest = (document.read_text() if document.exists() else _FRAME).partition(BEGIN)
    _old, _, after = rest.partition(END)
    folder = document.with_suffix("")
    folder.mkdir(exist_ok=True)
    lines = [before.rstrip("\n"), "", BEGIN, "", text(results)]
    for name, picture in _pictures(results).items():
        (folder / name).write_text(picture)
    document.write_text("\n".join([*lines, END]) + after)


def text(results: Results) -> str:
    """The generated part."""
    parts = [_machine(results), _goals(results)]
    parts += [part(results) for part in (_small, _medium, _large, _fetches, _idle, _slow, _account) if part(results)]
    return "\n".join(parts)


def _table(head: list[str], rows: list[list[str]]) -> str:
    rule = ["---"] + ["---:"] * (len(head) - 1)
    return "".join(f"| {' | '.join(row)} |\n" for row in [head, rule, *rows])


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _spread(spread: Spread | None, unit: str = "") -> str:
    if spread is None:
        return "-"
    if spread.low == spread.high:
        return f"{_number(spread.median)}{unit}"
    return f"{_number(spread.median)}{unit} ({_number(spread.low)} to {_number(spread.high)})"


def _label(server: str) -> str:
    peer = BY_NAME.get(server)
    return f"{peer.label} ({peer.note})" if peer and peer.note else peer.label if peer else server


def _machine(results: Results) -> str:
    lines = [f"* {name}: {value}\n" for name, value in results.machine.items()]
    return "## The machine, and what ran on it\n\n" + "".join(lines)


def _goals(results: Results) -> str:
    found = [each for each in goals(results) if each.measured]
    if not found:
        return ""
    rows = [
        [each.text, _goal(each, each.least), _goal(each, each.reach), _measured(each), each.verdict] for each in found
    ]
    head = ["workload", "at least", "reach for", "measured (least to most)", ""]
    return "## Goals\n\n" + _table(head, rows)


def _goal(goal: Goal, value: float | None) -> str:
    if value is None:
        return ""
    return f"{'at most ' if goal.down and value else ''}{_number(value)}{goal.unit}"


def _measured(goal: Goal) -> str:
    return _spread(goal.measured, goal.unit)


def _small(results: Results) -> str:
    parts = []
    for clients in results.loads(SMALL):
        rows = [_rate_row(results, SMALL, name, clients) for name in results.servers(SMALL, clients)]
        head = ["server", "connections/s", "to plain", "to nginx", "p50 ms", "p99 ms", "errors"]
        parts.append(f"### {clients} client{'s' if clients > 1 else ''}\n\n{_table(head, rows)}")
    if not parts:
        return ""
    pictures = "".join(f"![{name}](benchmarks/{name})\n\n" for name in _pictures(results))
    return "## 1 KiB, a new connection for every request\n\n" + pictures + "\n".join(parts)


def _rate_row(results: Results, table: str, name: str, clients: int) -> list[str]:
    return [
        _label(name),
        _spread(results.spread(table, name, clients, "rate")),
        *(_ratio(results, table, name, other, clients, "rate") for other in ("plain", "nginx")),
        *(_spread_median(results, table, name, clients, value) for value in ("p50_ms", "p99_ms")),
        _most(results.spread(table, name, clients, "errors")),
    ]


def _ratio(results: Results, table: str, name: str, other: str, load: int, value: str) -> str:  # noqa: PLR0913, PLR0917
    spread = results.ratio(table, (name, load), (other, load), value)
    return f"{_number(spread.median)}" if spread else "-"


def _spread_median(results: Results, table: str, name: str, load: int, value: str) -> str:
    median = results.median(table, name, load, value)
    return "-" if median is None else _number(median)


def _most(spread: Spread | None) -> str:
    return "-" if spread is None else f"{spread.high:,.0f}"


def _medium(results: Results) -> str:
    head = ["server", "connections/s", "to plain", "to nginx", "p50 ms", "p99 ms", "errors"]
    parts = [
        f"## 1 MiB, {clients} clients\n\n"
        + _table(head, [_rate_row(results, MEDIUM, name, clients) for name in results.servers(MEDIUM, clients)])
        for clients in results.loads(MEDIUM)
    ]
    return "\n".join(parts)


def _large(results: Results) -> str:
    rows = [
        [
            _label(name),
            _spread(results.spread(DISCARD, name, 1, "gb_s")),
            _ratio(results, DISCARD, name, "c-fork", 1, "gb_s"),
        ]
        for name in results.servers(DISCARD)
    ]
    title = "## One large file to a reader that discards it, server and reader on a processor each\n\n"
    return title + _table(["server", "GB/s", "to C, corked"], rows) if rows else ""


def _fetches(results: Results) -> str:
    parts = []
    for table, title, clients in (
        (FETCH, "## One large file to memory, by real clients", FILE_CLIENTS),
        (TREE, "## A tree of files of 4 KiB to memory, by real clients", TREE_CLIENTS),
        (TREE_AGAIN, "## The same tree again, where nothing has changed", TREE_CLIENTS),
    ):
        rows = [_fetch_row(results, table, each) for each in clients if each.name in results.servers(table)]
        if rows:
            parts.append(f"{title}\n\n" + _table(["client", "seconds", "GB/s", "speed, to rsync"], rows))
    return "\n".join(parts)


def _fetch_row(results: Results, table: str, client: Client) -> list[str]:
    return [
        client.label,
        _spread(results.spread(table, client.name, 1, "seconds")),
        _spread_median(results, table, client.name, 1, "gb_s"),
        _ratio(results, table, client.name, "rsync", 1, "gb_s"),
    ]


def _idle(results: Results) -> str:
    parts = []
    for count in results.loads(IDLE):
        rows = [
            [
                "**forkserver**, the same after a request" if name == AFTER_A_REQUEST else _label(name),
                _spread(results.spread(IDLE, name, count, "kib")),
                _spread_median(results, IDLE, name, count, "processes"),
            ]
            for name in results.servers(IDLE, count)
        ]
        head = ["server", "KiB a connection", "processes more"]
        parts.append(
            f"## Memory of {count:,} idle connections: PSS of all the server's processes\n\n{_table(head, rows)}"
        )
    return "\n".join(parts)


def _slow(results: Results) -> str:
    columns = ["completed", "errors", "most", "master_share", "elapsed_s"]
    rows = [
        [f"{count:,}", *(_spread(results.spread(SLOW, "crowd", count, value)) for value in columns)]
        for count in results.loads(SLOW)
    ]
    head = ["transfers", "finished", "errors", "children at once", "master's share of a processor", "seconds"]
    parts = ["## Slow transfers of 1 MiB, all at once, each its own process\n\n" + _table(head, rows)] if rows else []
    rows = [[f"{count:,}", _spread(results.spread(CROWD, "crowd", count, "rate"))] for count in results.loads(CROWD)]
    head = ["idle children", "connections/s"]
    return "\n".join(
        [*parts, *(["## 1 KiB, 16 clients, beside idle children\n\n" + _table(head, rows)] if rows else [])]
    )


def _account(results: Results) -> str:
    parts = []
    for load in results.loads(ACCOUNT):
        names = results.servers(ACCOUNT, load)
        costs = ["parent_us", "child_us", "parent_faults", "child_faults", "calls"]
        rows = [
            [_label(name), *(_spread_median(results, ACCOUNT, name, load, cost) for cost in costs)] for name in names
        ]
        head = ["server", "us, parent", "us, child", "faults, parent", "faults, child", "system calls"]
        parts.append(_table(head, rows))
        rows = [
            [_label(name), *(_spread_median(results, ACCOUNT, name, load, f"fault {kind}") for kind in KINDS)]
            for name in names
        ]
        parts.append("Where a child faults:\n\n" + _table(["server", *KINDS], rows))
        rows = [[_label(name), _calls(results, name, load)] for name in names]
        parts.append(
            "The calls made most, all processes together:\n\n" + _table(["server", "calls a connection"], rows)
        )
    return "## One connection's account, 1 KiB\n\n" + "\n".join(parts) if parts else ""


def _calls(results: Results, name: str, load: int) -> str:
    """Those of the first round."""
    [first] = [
        each.values
        for each in results.samples
        if (each.table, each.server, each.load, each.round) == (ACCOUNT, name, load, 0)
    ]
    named = {key.removeprefix("call "): value for key, value in first.items() if key.startswith("call ")}
    return ", ".join(f"`{call}` {_number(value)}" for call, value in named.items())


def _pictures(results: Results) -> dict[str, str]:
    """By file name."""
    if len(results.loads(SMALL)) < 2:
        return {}
    return {
        "rate.svg": plot.draw(
            "1 KiB, a new connection for every request", "connections a second", _of(results, "rate")
        ),
        "latency.svg": plot.draw("Latency, 99th percentile", "milliseconds, 1 KiB", _of(results, "p99_ms")),
    }


def _of(results: Results, value: str) -> list[plot.Line]:
    def at(name: str, clients: int) -> float:
        return results.median(SMALL, name, clients, value) or 0

    return [
        plot.Line(
            BY_NAME[name].label.replace("*", ""),
            [(clients, at(name, clients)) for clients in results.loads(SMALL)],
            strong=BY_NAME[name].ours,
            bound=name.startswith("c-"),
        )
        for name in FULL.servers
        if name in results.servers(SMALL)
    ]

"""Lines over the number of clients, as SVG: both axes logarithmic, ours in colour, the others in grey, all labelled."""

from __future__ import annotations

import dataclasses
import math
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 820, 520
_LEFT, _TOP, _RIGHT, _BOTTOM = 70, 50, 250, 50
_LABEL_GAP = 15
_STRONG = ["#d62728", "#1f77b4", "#2ca02c"]
_BOUND, _OTHER, _INK = "#333333", "#a0a0a0", "#222222"


@dataclasses.dataclass(frozen=True)
class Line:
    """``points``: number of clients, value. ``strong``: it is ours; ``bound``: what C can do."""

    label: str
    points: list[tuple[float, float]]
    strong: bool = False
    bound: bool = False


@dataclasses.dataclass(frozen=True)
class _Axes:
    x: tuple[float, float]
    y: tuple[float, float]

    def place(self, x: float, y: float) -> tuple[float, float]:
        across = _share(x, self.x) * (WIDTH - _LEFT - _RIGHT)
        up = _share(y, self.y) * (HEIGHT - _TOP - _BOTTOM)
        return _LEFT + across, HEIGHT - _BOTTOM - up


def _share(value: float, ends: tuple[float, float]) -> float:
    low, high = math.log10(ends[0]), math.log10(ends[1])
    return (math.log10(value) - low) / (high - low) if high > low else 0.5


def draw(title: str, unit: str, lines: list[Line]) -> str:
    """The picture. Values of zero are left out: a logarithm has no place for them."""
    lines = [dataclasses.replace(each, points=[p for p in each.points if p[1] > 0]) for each in lines]
    lines = [each for each in lines if each.points]
    ys = [y for each in lines for _, y in each.points]
    xs = sorted({x for each in lines for x, _ in each.points})
    axes = _Axes((xs[0], xs[-1]), (10 ** math.floor(math.log10(min(ys))), 10 ** math.ceil(math.log10(max(ys)))))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        _text((_LEFT, 24), title, size=16),
        _text((_LEFT, 42), unit),
        *_grid(axes, xs),
        *_lines(axes, lines),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _text(place: tuple[float, float], text: str, anchor: str = "start", *, size: int = 12, colour: str = _INK) -> str:
    at = f'x="{place[0]:.1f}" y="{place[1]:.1f}" text-anchor="{anchor}"'
    return f'<text {at} font-size="{size}" fill="{colour}">{escape(text)}</text>'


def _grid(axes: _Axes, xs: list[float]) -> list[str]:
    parts = []
    decade = axes.y[0]
    while decade <= axes.y[1] * 1.001:
        for step in (1, 2, 5):
            value = decade * step
            if value <= axes.y[1] * 1.001:
                _x, y = axes.place(xs[0], value)
                colour = "#cccccc" if step == 1 else "#eeeeee"
                parts.append(f'<path d="M{_LEFT} {y:.1f}H{WIDTH - _RIGHT}" stroke="{colour}"/>')
                parts.append(_text((_LEFT - 6, y + 4), f"{value:,g}" if value < 1 else f"{value:,.0f}", "end"))
        decade *= 10
    for value in xs:
        x, _y = axes.place(value, axes.y[0])
        parts.append(f'<path d="M{x:.1f} {_TOP}V{HEIGHT - _BOTTOM}" stroke="#eeeeee"/>')
        parts.append(_text((x, HEIGHT - _BOTTOM + 18), f"{value:.0f}", "middle"))
    parts.append(_text(((_LEFT + WIDTH - _RIGHT) / 2, HEIGHT - 12), "clients at once", "middle"))
    return parts


def _lines(axes: _Axes, lines: list[Line]) -> list[str]:
    parts = []
    labels = []
    colours = iter(_STRONG * len(lines))
    for each in sorted(lines, key=lambda line: (line.strong, line.bound)):
        colour = next(colours) if each.strong else _BOUND if each.bound else _OTHER
        places = [axes.place(*point) for point in each.points]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        dashes = ' stroke-dasharray="6 3"' if each.bound else ""
        width = 3 if each.strong else 1.5
        parts.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="{width}"{dashes}/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{width}" fill="{colour}"/>' for x, y in places]
        labels.append((places[-1], each.label, colour if each.strong or each.bound else "#666666"))
    return [*parts, *_labels(labels)]


def _labels(labels: list[tuple[tuple[float, float], str, str]]) -> list[str]:
    """Beside the lines' ends, moved apart where they would overlap, with a thin line to where they belong."""
    parts = []
    labels = sorted(labels)
    labels.sort(key=lambda label: label[0][1])
    spread = _apart([y for (_, y), _, _ in labels])
    for ((x, y), text, colour), label_y in zip(labels, spread, strict=True):
        end = WIDTH - _RIGHT + 24
        parts.append(f'<path d="M{x + 4:.1f} {y:.1f}L{end - 4} {label_y:.1f}" stroke="#dddddd" fill="none"/>')
        parts.append(_text((end, label_y + 4), text, colour=colour))
    return parts


def _apart(ys: list[float]) -> list[float]:
    """The least moves that keep a gap, within the picture."""
    low, high = _TOP - 10.0, HEIGHT - _BOTTOM + 10.0
    placed = list(ys)
    for _ in range(200):
        for i in range(len(placed) - 1):
            overlap = _LABEL_GAP - (placed[i + 1] - placed[i])
            if overlap > 0:
                placed[i] -= overlap / 2
                placed[i + 1] += overlap / 2
        placed = [min(max(y, low), high) for y in placed]
    return placed

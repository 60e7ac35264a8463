"""Charts as SVG text, drawn without a library: colours come from the page's style sheet."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

WIDTH, HEIGHT = 320, 210
LEFT, RIGHT, TOP, BOTTOM = 40, 46, 10, 28


@dataclass(frozen=True, kw_only=True)
class Point:
    """`x` is the place of a turn on the axis. A hollow point did not go into service."""

    x: int
    y: float
    name: str
    hollow: bool = False


@dataclass(frozen=True, kw_only=True)
class Line:
    """One curve; `kind` is its class in the style sheet.

    `dots` marks its points; `ends` writes its last value beside it.
    """

    kind: str
    name: str
    points: Sequence[Point]
    dots: bool = True
    ends: bool = True


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """About `count` round numbers that reach from `low` or below to `high` or above."""
    span = max(high - low, 1e-3)
    power = 10.0 ** math.floor(math.log10(span / count))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power * count >= span * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 10) for index in range(first, last + 1)]


def line_chart(title: str, lines: Sequence[Line], x_labels: Sequence[str]) -> Markup:
    """A line chart of `lines` over the places named by `x_labels`; empty without a point."""
    values = [point.y for line in lines for point in line.points]
    if not values:
        return Markup("")
    marks = ticks(min(values), max(values))
    scale = _Scale(len(x_labels), marks[0], max(marks[-1], marks[0] + 1e-6))
    parts = [
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(_spoken(title, lines))}">'
    ]
    parts += [_grid_line(scale, mark, _decimals(marks)) for mark in marks]
    parts += [
        f'<text class="tick" x="{scale.x(place):.1f}" y="{HEIGHT - 8}" '
        f'text-anchor="middle">{escape(label)}</text>'
        for place, label in enumerate(x_labels)
    ]
    parts += [_curve(scale, line) for line in lines if line.points]
    parts += _end_labels(scale, lines)
    return Markup("".join([*parts, "</svg>"]))


@dataclass(frozen=True)
class _Scale:
    places: int
    low: float
    high: float

    def x(self, place: int) -> float:
        if self.places == 1:
            return (LEFT + WIDTH - RIGHT) / 2
        inner = WIDTH - RIGHT - LEFT - 16
        return LEFT + 8 + inner * place / (self.places - 1)

    def y(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP)


def _decimals(marks: Sequence[float]) -> int:
    step = marks[1] - marks[0] if len(marks) > 1 else 1.0
    return next((n for n in range(4) if abs(round(step, n) - step) < 1e-9), 3)


def _grid_line(scale: _Scale, mark: float, decimals: int) -> str:
    y = scale.y(mark)
    return (
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text class="tick" x="{LEFT - 6}" y="{y + 3.5:.1f}" text-anchor="end">'
        f"{mark:.{decimals}f}</text>"
    )


def _curve(scale: _Scale, line: Line) -> str:
    places = [(scale.x(point.x), scale.y(point.y)) for point in line.points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    marked = zip(line.points, places, strict=True) if line.dots else ()
    dots = "".join(
        f'<circle class="dot{" hollow" if point.hollow else ""}" cx="{x:.1f}" cy="{y:.1f}" r="3.6">'
        f"<title>{escape(point.name)}: {point.y:.3f}</title></circle>"
        for point, (x, y) in marked
    )
    return f'<g class="line {line.kind}"><polyline points="{path}"/>{dots}</g>'


def _end_labels(scale: _Scale, lines: Sequence[Line]) -> list[str]:
    """The last value of each line beside it, pushed apart where they would overlap."""
    drawn = [line for line in lines if line.points and line.ends]
    ends = sorted(((scale.y(line.points[-1].y), line) for line in drawn), key=lambda end: end[0])
    labels, floor = [], -math.inf
    for y, line in ends:
        floor = max(y, floor + 12)
        last = line.points[-1]
        labels.append(
            f'<text class="end {line.kind}" x="{scale.x(last.x) + 8:.1f}" y="{floor + 3.5:.1f}">'
            f"{_short(last.y)}</text>"
        )
    return labels


def _short(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 1 else f"{value:.2f}"


def _spoken(title: str, lines: Sequence[Line]) -> str:
    said = "; ".join(_spoken_line(line) for line in lines if line.points)
    return f"{title}: {said}"


def _spoken_line(line: Line) -> str:
    points = line.points if line.dots else (line.points[0], line.points[-1])
    return f"{line.name} " + ", ".join(f"{point.name} {_short(point.y)}" for point in points)

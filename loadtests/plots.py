"""Plots as SVG, drawn here: a plotting library would be larger than all the rest of the image."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

Point = tuple[float, float]

BLUE, ORANGE, RED, GREEN, GREY = "#2563eb", "#d97706", "#dc2626", "#15803d", "#6b7280"

_WIDTH, _HEIGHT = 560, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 16, 34, 66
_TICKS = 5


@dataclass(frozen=True, slots=True)
class Series:
    """Points that belong together.

    Args:
        label: for the legend.
        points: x and y; those whose y is None were not measured.
        colour: as CSS has it.
        dashed: for what is computed rather than measured.
    """

    label: str
    points: Sequence[tuple[float, float | None]]
    colour: str
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Mark:
    """A line across the plot: at an x, or at a y."""

    label: str
    colour: str
    x: float | None = None
    y: float | None = None


def chart(
    title: str, x_label: str, y_label: str, series: Sequence[Series], marks: Sequence[Mark] = (), *, most_y: float | None = None
) -> str:
    """Lines over x.

    Args:
        title: what it shows.
        x_label: with the unit.
        y_label: with the unit.
        series: what is drawn.
        marks: limits and findings.
        most_y: where the plot ends although points lie above; those are drawn at its edge.
    """
    drawn = [Series(one.label, [(x, y) for x, y in one.points if y is not None], one.colour, one.dashed) for one in series]
    xs = [x for one in drawn for x, _ in one.points] + [mark.x for mark in marks if mark.x is not None]
    ys = [y for one in drawn for _, y in one.points if y is not None] + [mark.y for mark in marks if mark.y is not None]
    if not xs:
        return ""
    top = _nice(min(max(ys, default=1), most_y or math.inf) or 1)
    right = _nice(max(xs) or 1)
    x_of = _scale(right, _LEFT, _WIDTH - _RIGHT)
    y_of = _scale(top, _HEIGHT - _BOTTOM, _TOP)
    parts = [*_frame(title, x_label, y_label), *_axes(right, top, x_of, y_of)]
    parts += [_mark(mark, x_of, y_of, number) for number, mark in enumerate(marks)]
    parts += [_line(one, x_of, y_of, top) for one in drawn]
    parts += _legend([(one.label, one.colour, one.dashed) for one in drawn if one.points])
    return _svg(parts)


def heat_map(title: str, x_label: str, y_label: str, cells: dict[Point, float], *, marked: Point, mark_label: str) -> str:
    """Numbers on a grid, darker the larger; one cell with a frame. Nothing of nothing."""
    if not cells:
        return ""
    columns, rows = sorted({x for x, _ in cells}), sorted({y for _, y in cells})
    width, height = (_WIDTH - _LEFT - _RIGHT) / len(columns), (_HEIGHT - _TOP - _BOTTOM) / len(rows)
    least, most = min(cells.values()), max(cells.values())
    parts = _frame(title, x_label, y_label)
    for (x, y), value in cells.items():
        left, top = _LEFT + columns.index(x) * width, _HEIGHT - _BOTTOM - (rows.index(y) + 1) * height
        share = (value - least) / (most - least) if most > least else 1.0
        frame = f'stroke="{RED}" stroke-width="3"' if (x, y) == marked else 'stroke="#fff" stroke-width="1"'
        parts.append(
            f'<rect x="{left + 2:.1f}" y="{top + 2:.1f}" width="{width - 4:.1f}" height="{height - 4:.1f}" fill="{_shade(share)}" {frame}/>'
        )
        ink = "#fff" if share > 0.55 else "#111"
        parts.append(
            f'<text x="{left + width / 2:.1f}" y="{top + height / 2 + 4:.1f}" text-anchor="middle" fill="{ink}">{value:.0f}</text>'
        )
    for x in columns:
        parts.append(
            f'<text x="{_LEFT + (columns.index(x) + 0.5) * width:.1f}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle">{x:g}</text>'
        )
    for y in rows:
        parts.append(
            f'<text x="{_LEFT - 8}" y="{_HEIGHT - _BOTTOM - (rows.index(y) + 0.5) * height + 4:.1f}" text-anchor="end">{y:g}</text>'
        )
    return _svg([*parts, *_legend([(mark_label, RED, False)])])


def _svg(parts: Sequence[str]) -> str:
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" font-size="12">{"".join(parts)}</svg>'


def _frame(title: str, x_label: str, y_label: str) -> list[str]:
    middle = (_TOP + _HEIGHT - _BOTTOM) / 2
    return [
        f"<title>{escape(title)}</title>",
        f'<text x="{_LEFT}" y="18" font-size="14" font-weight="600">{escape(title)}</text>',
        f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - _BOTTOM + 34}" text-anchor="middle" fill="{GREY}">{escape(x_label)}</text>',
        f'<text x="14" y="{middle}" text-anchor="middle" fill="{GREY}" transform="rotate(-90 14 {middle})">{escape(y_label)}</text>',
    ]


def _axes(right: float, top: float, x_of: "_Scale", y_of: "_Scale") -> list[str]:
    parts = []
    for number in range(_TICKS + 1):
        x, y = right * number / _TICKS, top * number / _TICKS
        parts.append(f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y_of(y):.1f}" y2="{y_of(y):.1f}" stroke="#e5e7eb"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y_of(y) + 4:.1f}" text-anchor="end">{y:g}</text>')
        parts.append(f'<text x="{x_of(x):.1f}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle">{x:g}</text>')
    return parts


def _line(series: Series, x_of: "_Scale", y_of: "_Scale", top: float) -> str:
    places = [(x_of(x), y_of(min(y, top))) for x, y in series.points if y is not None]
    if not places:
        return ""
    style = f'stroke="{series.colour}" fill="none" stroke-width="2"' + (' stroke-dasharray="6 4"' if series.dashed else "")
    path = f'<polyline points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in places)}" {style}/>'
    if series.dashed:
        return path
    return path + "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{series.colour}"/>' for x, y in places)


def _mark(mark: Mark, x_of: "_Scale", y_of: "_Scale", number: int) -> str:
    style = f'stroke="{mark.colour}" stroke-dasharray="3 3" stroke-width="1.5"'
    if mark.x is not None:
        at = x_of(mark.x)
        side, anchor = (at - 4, "end") if at > _WIDTH * 0.7 else (at + 4, "start")
        line = f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}" {style}/>'
        return (
            line
            + f'<text x="{side:.1f}" y="{_HEIGHT - _BOTTOM - 6 - 14 * number}" text-anchor="{anchor}" fill="{mark.colour}">{escape(mark.label)}</text>'
        )
    at = y_of(mark.y or 0)
    if at < _TOP - 1:
        return ""
    line = f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{at:.1f}" y2="{at:.1f}" {style}/>'
    label_at = at - 4 if at > _TOP + 12 else at + 13
    return line + f'<text x="{_LEFT + 4}" y="{label_at:.1f}" fill="{mark.colour}">{escape(mark.label)}</text>'


def _legend(entries: Sequence[tuple[str, str, bool]]) -> list[str]:
    parts, at, y = [], float(_LEFT), _HEIGHT - 14
    for label, colour, dashed in entries:
        dash = ' stroke-dasharray="6 4"' if dashed else ""
        parts.append(f'<line x1="{at:.0f}" x2="{at + 20:.0f}" y1="{y - 4}" y2="{y - 4}" stroke="{colour}" stroke-width="3"{dash}/>')
        parts.append(f'<text x="{at + 25:.0f}" y="{y}">{escape(label)}</text>')
        at += 40 + 6.6 * len(label)
    return parts


@dataclass(frozen=True, slots=True)
class _Scale:
    most: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + (self.end - self.start) * value / self.most


def _scale(most: float, start: float, end: float) -> _Scale:
    return _Scale(most, start, end)


def _nice(value: float) -> float:
    """The next number that divides well by `_TICKS`."""
    power = 10.0 ** math.floor(math.log10(value))
    return next((step * power for step in (1, 1.5, 2, 2.5, 3, 4, 5, 7.5, 10) if step * power >= value * 0.9999), 10 * power)


def _shade(share: float) -> str:
    pale, deep = (219, 234, 254), (30, 64, 175)
    return "#" + "".join(f"{round(low + (high - low) * share):02x}" for low, high in zip(pale, deep, strict=True))

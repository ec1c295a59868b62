"""Draws what was asked for, and how many pods each policy had: as SVG, or HTML with the table below it."""

from __future__ import annotations

from html import escape
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from scaler.simulate.world import World

_WIDTH, _HEIGHT = 980, 520
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 150, 56, 44
# As many points as there are pixels: of each span the largest is drawn, so that no peak is lost.
_POINTS = _WIDTH - _LEFT - _RIGHT
_COLOURS = ("#0969da", "#818b98", "#bf8700", "#8250df", "#1a7f37", "#cf222e", "#57606a", "#d4a72c")
_STYLE = """\
text { font: 13px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1f2328; }
.title { font-size: 17px; font-weight: 600; } .quiet { fill: #59636e; font-size: 12px; }
.need { fill: #d1d9e0; } .line { fill: none; stroke-width: 1.5; } .grid { stroke: #d1d9e0; }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc; } .quiet { fill: #9198a1; } .need { fill: #3d444d; } .grid { stroke: #3d444d; }
}
"""
_PAGE = """\
<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>%s</title>
<style>:root { color-scheme: light dark; } body { margin: 2rem; max-width: 62rem; font: 15px system-ui, sans-serif; }
svg { max-width: 100%%; height: auto; } pre { overflow-x: auto; }</style></head>
<body>%s<pre>%s</pre></body></html>
"""


def svg(title: str, worlds: Mapping[str, World]) -> str:
    """Pods over time: what is needed as an area, what each policy had as a line."""
    first = next(iter(worlds.values()))
    needed = [first.deployment.needed(rate) for rate in _largest(first.trace.rates)]
    lines = {name: _largest(world.history) for name, world in worlds.items()}
    most = max([1, *needed, *(max(line) for line in lines.values())])
    parts = [_area(needed, most)]
    for place, (name, line) in enumerate(lines.items()):
        colour = _COLOURS[place % len(_COLOURS)]
        # The first is what it is about: drawn last it would hide the rest, so it's drawn thicker.
        width = ' style="stroke-width: 2.5"' if not place else ""
        parts.append(f'<polyline class="line" stroke="{colour}"{width} points="{_points(line, most)}"/>')
        y = _TOP + 14 + 22 * place
        parts.append(f'<rect x="{_WIDTH - _RIGHT + 16}" y="{y - 9}" width="14" height="4" fill="{colour}"/>')
        parts.append(_text(_WIDTH - _RIGHT + 36, y, name))
    parts += [*_axes(most, first.trace.seconds), _text(_LEFT, 28, title, "title")]
    parts.append(_text(_LEFT, 46, "pods; the area is what is needed so that no second is violated", "quiet"))
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" '
        f'role="img" aria-label="{escape(title)}">\n<style>{_STYLE}</style>\n{body}\n</svg>\n'
    )


def html(title: str, worlds: Mapping[str, World], table: str) -> str:
    """A page of its own."""
    return _PAGE % (escape(title), svg(title, worlds), escape(table))


def _largest(values: Sequence[float]) -> list[float]:
    count = min(_POINTS, len(values))
    edges = [place * len(values) // count for place in range(count + 1)]
    return [max(values[since:until]) for since, until in pairwise(edges)]


def _x(place: int, count: int) -> float:
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * place / max(1, count - 1)


def _y(value: float, most: float) -> float:
    return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * value / most


def _points(line: Sequence[float], most: float) -> str:
    return " ".join(f"{_x(place, len(line)):.1f},{_y(value, most):.1f}" for place, value in enumerate(line))


def _area(needed: Sequence[float], most: float) -> str:
    floor = _y(0, most)
    ends = f"{_x(len(needed) - 1, len(needed)):.1f},{floor} {_LEFT},{floor}"
    return f'<polygon class="need" points="{_points(needed, most)} {ends}"/>'


def _axes(most: float, seconds: int) -> list[str]:
    step = max(1, round(most / 5))
    parts = []
    for value in range(0, int(most) + 1, step):
        y = _y(value, most)
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke-opacity="0.5"/>'
        )
        parts.append(_text(_LEFT - 8, y + 4, str(value), "quiet", anchor="end"))
    for place in range(7):
        at = seconds * place / 6
        said = f"{at / 3600:.1f} h" if seconds < 4 * 86_400 else f"day {at / 86_400:.1f}"
        parts.append(_text(_x(place, 7), _HEIGHT - _BOTTOM + 20, said, "quiet", anchor="middle"))
    return parts


def _text(x: float, y: float, said: str, kind: str = "", *, anchor: str = "start") -> str:
    named = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{named} text-anchor="{anchor}">{escape(said)}</text>'

"""A chart of requests per second relative to nginx's, as SVG that reads well on light and on dark."""

from html import escape

from tests.bench.speed.figures import Found, figure
from tests.bench.speed.table import SATURATED, SERVERS

_WIDTH = 860
_LEFT = 306
_RIGHT = 150
_TOP = 92
_BAR = 17
_GAP = 4
_GROUP_GAP = 20
# Grey for the others, one colour for us: told apart without colours by their labels.
_COLOURS = {"crowdgate": "c", "nginx": "n", "varnish": "v", "haproxy": "h"}
_STYLE = """\
text { font: 13px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1f2328; }
.title { font-size: 17px; font-weight: 600; }
.quiet { fill: #59636e; font-size: 12px; }
.group { font-weight: 600; }
.c { fill: #0969da; } .n { fill: #818b98; } .h { fill: #a8b1bb; } .v { fill: #cbd2d9; }
.line { stroke: #d1d9e0; stroke-width: 1; } .one { stroke: #59636e; stroke-dasharray: 4 3; }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc; } .quiet { fill: #9198a1; }
  .c { fill: #4493f8; } .n { fill: #8b949e; } .h { fill: #6e7681; } .v { fill: #484f58; }
  .line { stroke: #3d444d; } .one { stroke: #9198a1; }
}
"""
# Those of which nginx has a figure to be compared with.
_WORKLOADS = ("identical", "different", "zipf", "pass", "post")


def svg(found: Found, below_title: str) -> str:
    """Grouped bars, one group for each workload; empty groups are left out."""
    groups = [(workload, rows) for workload in _WORKLOADS if (rows := _relative(found, workload))]
    longest = max([1.0, *(share for _, rows in groups for _, share, _ in rows)])
    scale = (_WIDTH - _LEFT - _RIGHT) / longest
    parts: list[str] = []
    y = _TOP
    for workload, rows in groups:
        parts.append(_text(_LEFT - 92, y + _BAR - 4, SATURATED[workload], "group", anchor="end"))
        for server, share, speed in rows:
            width = max(1.0, share * scale)
            parts += [
                _text(
                    _LEFT - 8,
                    y + _BAR - 4,
                    SERVERS[server],
                    "" if server == "crowdgate" else "quiet",
                    anchor="end",
                ),
                f'<rect class="{_COLOURS[server]}" x="{_LEFT}" y="{y}" width="{width:.1f}" height="{_BAR}" rx="2"/>',
                _text(
                    _WIDTH - 20,
                    y + _BAR - 4,
                    f"{share:.2f}  ({speed / 1000:,.0f}k req/s)",
                    "quiet",
                    anchor="end",
                ),
            ]
            y += _BAR + _GAP
        y += _GROUP_GAP
    return _page(parts, scale, y, below_title)


def _relative(found: Found, workload: str) -> list[tuple[str, float, float]]:
    """Server, its share of nginx's requests per second, and these; ours first."""
    nginx = figure(found, workload, "nginx", "requests_per_s")
    speeds = {server: figure(found, workload, server, "requests_per_s") for server in _COLOURS}
    if not nginx:
        return []
    return [(server, speed / nginx, speed) for server, speed in speeds.items() if speed is not None]


def _page(parts: list[str], scale: float, bottom: float, below_title: str) -> str:
    height = bottom + 14
    one = _LEFT + scale
    frame = [
        _text(20, 30, "Requests per second on one core, nginx = 1", "title"),
        _text(20, 52, below_title, "quiet"),
        f'<line class="line" x1="{_LEFT}" y1="{_TOP - 8}" x2="{_LEFT}" y2="{bottom - _GROUP_GAP + 4}"/>',
        f'<line class="one" x1="{one:.1f}" y1="{_TOP - 8}" x2="{one:.1f}" y2="{bottom - _GROUP_GAP + 4}"/>',
        _text(one, _TOP - 13, "nginx = 1", "quiet", anchor="middle"),
    ]
    inside = "\n".join((*frame[:2], *parts, *frame[2:]))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height:.0f}" '
        f'viewBox="0 0 {_WIDTH} {height:.0f}" role="img" aria-label="Requests per second relative to nginx">\n'
        f"<style>\n{_STYLE}</style>\n{inside}\n</svg>\n"
    )


def _text(x: float, y: float, text: str, name: str, *, anchor: str = "start") -> str:
    return f'<text class="{name}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'

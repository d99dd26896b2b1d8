"""Charts and pages without anything from outside: SVG and HTML as text."""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

COLORS = ('#3366cc', '#dc3912', '#109618', '#ff9900', '#990099', '#0099c6', '#b82e2e', '#66aa00', '#dd4477', '#316395')
STYLE = """
body{font:15px/1.5 system-ui,sans-serif;color:#222;background:#fafafa;margin:0 auto;max-width:1180px;padding:1.2em}
h1{font-size:1.6em;margin:.2em 0}
h2{margin:1.6em 0 .5em;border-bottom:2px solid #ddd;font-size:1.25em}
table{border-collapse:collapse;margin:.5em 0;font-variant-numeric:tabular-nums}
td,th{padding:.2em .7em;text-align:right}
th{background:#eee;font-weight:600}
td:first-child,th:first-child{text-align:left}
tr:nth-child(even) td{background:#f3f3f3}
.row{display:flex;flex-wrap:wrap;gap:1em;align-items:flex-start}
figure{margin:0;background:#fff;border:1px solid #ddd;padding:.5em}
figcaption{font-size:.85em;color:#444;max-width:260px}
img{max-width:100%;display:block}
pre{background:#fff;border:1px solid #ddd;padding:.7em;overflow:auto;font-size:.85em}
svg text{font:11px system-ui,sans-serif;fill:#333}
.matrix td{min-width:2.2em;border:1px solid #fff}
.tiles figure{width:250px}
.added{color:#0a6b2d}.gone{color:#a31621}
.wide{overflow-x:auto}
"""


def escape(value: Any) -> str:
    """Text as HTML has it."""
    return html.escape(str(value))


def page(title: str, sections: Sequence[tuple[str, str]]) -> str:
    """A whole document of (heading, HTML)."""
    body = ''.join(f'<section><h2>{escape(name)}</h2>{content}</section>' for name, content in sections if content)
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head>'
        f'<body><h1>{escape(title)}</h1>{body}</body></html>\n'
    )


def table(head: Sequence[Any], rows: Sequence[Sequence[Any]]) -> str:
    """A table of text and numbers; '' without rows."""
    if not rows:
        return ''
    top = ''.join(f'<th>{escape(cell)}</th>' for cell in head) if any(head) else ''
    lines = ''.join('<tr>' + ''.join(f'<td>{escape(number(cell))}</td>' for cell in row) + '</tr>' for row in rows)
    return f'<div class="wide"><table>{top and f"<tr>{top}</tr>"}{lines}</table></div>'


def number(value: Any) -> str:
    """Numbers with as many digits as are read."""
    if isinstance(value, (float, np.floating)):
        return '-' if not math.isfinite(value) else f'{value:.3f}' if abs(value) < 1000 else f'{value:.0f}'
    return str(value)


def row(*parts: str) -> str:
    """Parts beside each other, in as many lines as they need."""
    return f'<div class="row">{"".join(parts)}</div>'


def picture(jpeg: bytes, caption: str = '') -> str:
    """A picture inside the page."""
    data = base64.b64encode(jpeg).decode()
    text = f'<figcaption>{escape(caption)}</figcaption>' if caption else ''
    return f'<figure><img alt="{escape(caption)}" src="data:image/jpeg;base64,{data}">{text}</figure>'


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers between two."""
    if not high > low:
        return [low]
    raw = (high - low) / count
    unit = 10 ** math.floor(math.log10(raw))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= raw)
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


def lines(
    title: str,
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    x_label: str = '',
    limits: tuple[float, float] | None = None,
    x_limits: tuple[float, float] | None = None,
    size: tuple[int, int] = (360, 240),
) -> str:
    """Lines over one pair of axes; '' where no series has a number.

    Args:
        series: By name the values of x and y; those that are not finite are left out.
        limits, x_limits: Of the y and the x axis.
    """
    cleaned = {}
    for name, (xs, ys) in series.items():
        x, y = np.asarray(xs, dtype=float), np.asarray(ys, dtype=float)
        keep = np.isfinite(x) & np.isfinite(y)
        if keep.any():
            cleaned[name] = (x[keep], y[keep])
    if not cleaned:
        return ''
    width, height = size
    left, right, top, bottom = 48, 10, 24, 34
    x_low, x_high = x_limits or tuple(float(f(f(x) for x, _ in cleaned.values())) for f in (min, max))
    y_low, y_high = limits or tuple(float(f(f(y) for _, y in cleaned.values())) for f in (min, max))
    if y_high <= y_low:
        y_low, y_high = y_low - 0.5 * (abs(y_low) or 1), y_high + 0.5 * (abs(y_high) or 1)
    x_high = x_high if x_high > x_low else x_low + 1
    to_x = lambda v: left + (v - x_low) / (x_high - x_low) * (width - left - right)
    to_y = lambda v: height - bottom - (v - y_low) / (y_high - y_low) * (height - top - bottom)
    parts = [f'<text x="{left}" y="15" style="font-weight:600">{escape(title)}</text>']
    for value in ticks(y_low, y_high):
        parts.append(
            f'<line x1="{left}" x2="{width - right}" y1="{to_y(value):.1f}" y2="{to_y(value):.1f}" stroke="#e5e5e5"/>'
        )
        parts.append(f'<text x="{left - 5}" y="{to_y(value) + 4:.1f}" text-anchor="end">{value:.3g}</text>')
    whole = all((x == x.round()).all() for x, _ in cleaned.values())  # of steps and epochs there are no halves
    for value in [value for value in ticks(x_low, x_high) if not whole or value == round(value)]:
        parts.append(f'<text x="{to_x(value):.1f}" y="{height - bottom + 14}" text-anchor="middle">{value:g}</text>')
    parts.append(f'<text x="{(width + left) / 2:.0f}" y="{height - 4}" text-anchor="middle">{escape(x_label)}</text>')
    for index, (name, (x, y)) in enumerate(cleaned.items()):
        color = COLORS[index % len(COLORS)]
        points = ' '.join(f'{to_x(a):.1f},{to_y(min(max(b, y_low), y_high)):.1f}' for a, b in zip(*_thinned(x, y)))
        mark = (
            f'<circle cx="{points.split(",")[0]}" cy="{points.split(",")[1]}" r="3" fill="{color}"/>'
            if len(x) == 1
            else ''
        )
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="1.6"><title>{escape(name)}</title>'
            f'</polyline>{mark}'
        )
    legend = ''
    if len(cleaned) > 1:
        keys = [
            f'<span style="color:{COLORS[i % len(COLORS)]}">&#9632;</span> {escape(n)}' for i, n in enumerate(cleaned)
        ]
        more = ' ...' if len(keys) > 20 else ''
        legend = f'<figcaption style="max-width:{width}px">{" ".join(keys[:20])}{more}</figcaption>'
    svg = f'<svg width="{width}" height="{height}" role="img" xmlns="http://www.w3.org/2000/svg">{"".join(parts)}</svg>'
    return f'<figure>{svg}{legend}</figure>'


def _thinned(x: np.ndarray, y: np.ndarray, most: int = 400) -> tuple[np.ndarray, np.ndarray]:
    if len(x) <= most:
        return x, y
    chosen = np.unique(np.linspace(0, len(x) - 1, most).astype(int))
    return x[chosen], y[chosen]


def bars(title: str, values: Mapping[str, float], width: int = 400) -> str:
    """Horizontal bars with their numbers."""
    if not values:
        return ''
    most = max(max(values.values()), 1e-12)
    height, parts = 28 + 18 * len(values), [f'<text x="4" y="15" style="font-weight:600">{escape(title)}</text>']
    for index, (name, value) in enumerate(values.items()):
        y = 26 + 18 * index
        length = max(value, 0) / most * (width - 240)
        shown = f'{value:.3f}'.rstrip('0').rstrip('.') if isinstance(value, float) else f'{value}'
        parts.append(f'<text x="170" y="{y + 11}" text-anchor="end">{escape(name[:28])}</text>')
        parts.append(f'<rect x="176" y="{y}" width="{length:.1f}" height="14" fill="{COLORS[0]}"/>')
        parts.append(f'<text x="{180 + length:.1f}" y="{y + 11}">{shown}</text>')
    svg = f'<svg width="{width}" height="{height}" xmlns="http://www.w3.org/2000/svg">{"".join(parts)}</svg>'
    return f'<figure>{svg}</figure>'


def matrix(counts: np.ndarray, names: Sequence[str]) -> str:
    """Counts in a table, tinted by their part of the row."""
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    head = '<th>true \\ detected</th>' + ''.join(f'<th>{escape(name)}</th>' for name in names)
    rows = []
    for name, line, parts in zip(names, counts, share):
        cells = ''.join(
            f'<td style="background:rgba(51,102,204,{0.85 * part:.2f});color:{"#fff" if part > 0.55 else "#222"}" '
            f'title="{100 * part:.1f} %">{int(count) or ""}</td>'
            for count, part in zip(line, parts)
        )
        rows.append(f'<tr><th>{escape(name)}</th>{cells}</tr>')
    return f'<div class="wide"><table class="matrix"><tr>{head}</tr>{"".join(rows)}</table></div>'

"""A drawing of scores with their intervals, one row each: plain SVG, nothing to install."""

from collections.abc import Mapping, Sequence
from html import escape

_ROW, _LABELS, _WIDTH, _MARGIN = 26, 260, 420, 40  # pixels
_GRID = 0.05


def plot(title: str, rows: Mapping[str, Sequence[float]]) -> str:
    """Draw rows of (value, low, high, …) from the top down on one axis."""
    lows, highs = [row[1] for row in rows.values()], [row[2] for row in rows.values()]
    first = int(min(lows) / _GRID) * _GRID
    last = (int(max(highs) / _GRID) + 1) * _GRID
    height = _MARGIN * 2 + _ROW * len(rows)

    def x(value: float) -> float:
        return round(_LABELS + (value - first) / (last - first) * _WIDTH, 1)

    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_LABELS + _WIDTH + _MARGIN}" '
        f'height="{height}" font-family="sans-serif" font-size="13">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="10" y="22">{escape(title)}</text>',
    ]
    for step in range(round((last - first) / _GRID) + 1):
        at = x(first + step * _GRID)
        lines.append(f'<path d="M{at} {_MARGIN}V{height - _MARGIN}" stroke="#ddd"/>')
        text = f"{first + step * _GRID:.2f}"
        lines.append(f'<text x="{at}" y="{height - 20}" text-anchor="middle">{text}</text>')
    for number, (name, (value, low, high, *_)) in enumerate(rows.items()):
        y = _MARGIN + _ROW * number + _ROW // 2
        lines += [
            f'<text x="10" y="{y + 4}">{escape(name)}</text>',
            f'<path d="M{x(low)} {y}H{x(high)}" stroke="#357" stroke-width="2"/>',
            f'<circle cx="{x(value)}" cy="{y}" r="4" fill="#357"/>',
        ]
    return "\n".join([*lines, "</svg>"]) + "\n"

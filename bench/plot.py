"""`make bench-plot ARGS="FILE SVG"`: what --json has written, drawn.

The fan-out of `make bench-peers` as bars, or the memory of `make soak` as a line.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from html import escape
from pathlib import Path

WIDTH, BAR, GAP, NAMES = 760, 22, 6, 150
"""pixels"""
_OURS, _LIMIT, _OTHERS = "#2563eb", "#6b7280", "#a8b3c4"
_LABELS = {"ours": "cotexd", "send loop": "C loop of send()", "await ws.send()": "plain Sanic"}


def draw(peers: dict[str, dict[str, object]]) -> str:
    """An SVG of deliveries a second by the clock, to each number of connections.

    :param peers: `peers` of --json
    :raises KeyError: it has no fan-out
    """
    rows: list[str] = []
    y = 34
    for count in sorted((each for each in peers if each.isdigit()), key=int):
        speeds = _speeds(peers[count])
        rows.append(
            _text(0, y, f"one event of 1 KB to {int(count):,} connections: deliveries a second", "bold")
        )
        y += 12
        for name, speed in speeds:
            length = (WIDTH - NAMES - 90) * speed / speeds[0][1]
            colour = _OURS if name == "ours" else _LIMIT if name == "send loop" else _OTHERS
            rows += [
                _text(NAMES - 8, y + 16, _LABELS.get(name, name), "normal", "end"),
                f'<rect x="{NAMES}" y="{y}" width="{length:.1f}" height="{BAR}" fill="{colour}"/>',
                _text(NAMES + length + 6, y + 16, f"{speed:,.0f}"),
            ]
            y += BAR + GAP
        y += 34
    if not rows:
        raise KeyError("fan-out")
    return _svg(rows, y)


def draw_soak(looks: Sequence[dict[str, float]]) -> str:
    """An SVG of the server's memory over time.

    :param looks: `soak.looks` of --json
    """
    height, left, bottom = 260, 60, 40
    minutes, most = looks[-1]["minutes"], max(each["memory_mb"] for each in looks) * 1.15
    across, up = (WIDTH - left - 20) / minutes, (height - bottom - 30) / most

    def place(at: float, memory: float) -> tuple[float, float]:
        return left + at * across, height - bottom - memory * up

    line = " ".join("{:.1f},{:.1f}".format(*place(each["minutes"], each["memory_mb"])) for each in looks)
    rows = [
        _text(
            0,
            18,
            "memory of the server in MB, over minutes, at 200 events a second to 2,000 WebSockets",
            "bold",
        )
    ]
    for memory in range(0, int(most) + 1, 25):
        y = place(0, memory)[1]
        rows.append(f'<line x1="{left}" y1="{y:.1f}" x2="{WIDTH - 20}" y2="{y:.1f}" stroke="#e5e7eb"/>')
        rows.append(_text(left - 8, round(y + 5), str(memory), anchor="end"))
    rows += [
        _text(place(at, 0)[0], height - bottom + 20, str(at), anchor="middle")
        for at in range(0, int(minutes) + 1, 10)
    ]
    rows.append(f'<polyline points="{line}" fill="none" stroke="{_OURS}" stroke-width="2"/>')
    return _svg(rows, height)


def _svg(rows: list[str], height: int) -> str:
    size = f'width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"'
    back = '<rect width="100%" height="100%" fill="white"/>'
    return "\n".join(
        [f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-size="14">', back, *rows, "</svg>", ""]
    )


def _speeds(found: dict[str, object]) -> list[tuple[str, float]]:
    """By the clock, the quickest first."""
    speeds = [
        (name, float(value["theirs"] if isinstance(value, dict) else str(value)))
        for name, value in found.items()
        if not name.endswith("_cpu")
    ]
    return sorted(speeds, key=lambda each: -each[1])


def _text(x: float, y: float, text: str, weight: str = "normal", anchor: str = "start") -> str:
    return (
        f'<text x="{x:.1f}" y="{y}" font-family="sans-serif" font-weight="{weight}" text-anchor="{anchor}">'
        f"{escape(text)}</text>"
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="plot", description=__doc__)
    parser.add_argument("file", type=Path, help="of --json")
    parser.add_argument("svg", type=Path)
    given = parser.parse_args()
    try:
        found = json.loads(given.file.read_text())
        given.svg.write_text(draw_soak(found["soak"]["looks"]) if "soak" in found else draw(found["peers"]))
    except (OSError, ValueError, KeyError) as error:
        print(
            f"plot: {given.file} holds nothing of `make bench-peers` or `make soak`: {error}", file=sys.stderr
        )
        return 1
    print(given.svg)
    return 0


if __name__ == "__main__":
    sys.exit(main())

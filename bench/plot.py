"""`make bench-plot ARGS="FILE [SVG]"`: the fan-out of a run of `make bench-peers ARGS="--json FILE"` as bars."""

import argparse
import json
import sys
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
    size = f'width="{WIDTH}" height="{y}" viewBox="0 0 {WIDTH} {y}"'
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
    parser.add_argument("svg", type=Path, nargs="?", default=Path("docs/fanout.svg"))
    given = parser.parse_args()
    try:
        given.svg.write_text(draw(json.loads(given.file.read_text())["peers"]))
    except (OSError, ValueError, KeyError) as error:
        print(f"plot: {given.file} holds no fan-out of `make bench-peers`: {error}", file=sys.stderr)
        return 1
    print(given.svg)
    return 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Draws the plots of docs/observability.md from a Prometheus that scrapes ecr-sync, or a recording.

    deploy/monitoring/plots.py record http://127.0.0.1:9090 --minutes 5  # writes run.json, draws
    deploy/monitoring/plots.py draw                                    # draws docs/plots/run.json

Needs only Python 3.
"""
import argparse
import html
import json
import math
import pathlib
import time
import urllib.parse
import urllib.request

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "docs" / "plots"
RED, GREEN = "#d4351c", "#00703c"
# As in the dashboard: red is for what failed.
COLOURS_OF = {"failed": RED, "synced": GREEN}
COLOURS = ["#1f6feb", "#f47738", "#4c2c92", "#28a197", "#801650", "#b58840", "#505a5f"]
# Lines that lie on one another can be told apart.
DASHES = ["", "8 5", "2 3", "10 3 2 3"]
# Upper bound of the width of a character, in parts of the font size.
CHARACTER = 0.62
SECONDS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600]
PLOTS = {
    "sync": ("Wanted tags", "", "sum by (state) (ecrsync_tags)", "state"),
    "queue": ("Waiting and running passes", "",
              'label_replace(sum(workqueue_depth), "of", "waiting", "", "") or '
              'label_replace(sum(controller_runtime_active_workers), "of", "running", "", "")',
              "of"),
    "aws": ("AWS calls", "calls/s",
            "sum by (operation) (rate(ecrsync_aws_requests_total[15s])) > 0", "operation"),
    "bytes": ("Bytes sent to ECR", "MB/s",
              'label_replace(sum(rate(ecrsync_copied_bytes_total[15s])) / 1e6, '
              '"of", "bytes", "", "")', "of"),
    # Seconds of waiting per second: the number of requests that wait.
    "throttle": ("Requests that wait for own rate limits", "",
                 "sum by (action) (rate(ecrsync_throttle_wait_seconds_total[15s]))", "action"),
}


def record(folder, prometheus, minutes):
    """Queries all series of the last minutes, with one point per second."""
    end = time.time()
    run = {}
    for name, (_, _, expression, label) in PLOTS.items():
        query = {"query": expression, "start": end - 60 * minutes, "end": end, "step": 1}
        url = f"{prometheus}/api/v1/query_range?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url) as answer:
            result = json.load(answer)["data"]["result"]
        run[name] = {series["metric"].get(label, label):
                     [[at, float(value)] for at, value in series["values"]] for series in result}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(json.dumps(rebased(run), separators=(",", ":")) + "\n")


def rebased(run):
    """Returns the series with times in seconds since the first point: without a date."""
    starts = [points[0][0] for plot in run.values() for points in plot.values() if points]
    start = min(starts, default=0)
    return {name: {label: [[round(at - start), round(value, 4)] for at, value in points]
                   for label, points in plot.items()} for name, plot in run.items()}


def ticks(top, most=5):
    """Returns multiples of 1, 2 or 5 x 10^n from 0 to the first that is not below `top`."""
    if top <= 0:
        top = 1
    power = 10.0 ** math.floor(math.log10(top / most))
    step = next(step * power for step in (1, 2, 5, 10) if step * power * most >= top)
    return [step * part for part in range(math.ceil(top / step - 1e-9) + 1)]


def times(last, most=8):
    """Returns round times in seconds, from 0 to at most `last`."""
    step = next((step for step in SECONDS if step * most >= last), last)
    return [step * part for part in range(int(last / step) + 1)]


def parts(points):
    """Splits the points at gaps, so that no line is drawn where a series has no points."""
    found = []
    for at, value in points:
        if not found or at - found[-1][-1][0] > 2:
            found.append([])
        found[-1].append((at, value))
    return found


def colours(labels):
    """Returns the colour and the dashes of each label."""
    others = [label for label in labels if label not in COLOURS_OF]
    chosen = {label: (COLOURS_OF[label], "") for label in labels if label in COLOURS_OF}
    for index, label in enumerate(others):
        chosen[label] = (COLOURS[index % len(COLOURS)], DASHES[index % len(DASHES)])
    return chosen


def draw(folder, name, plot):
    """Writes one plot as SVG: lines over seconds, with a legend."""
    title, unit, _, _ = PLOTS[name]
    size, labels = 12, sorted(plot)
    legend = 34 + CHARACTER * size * max(map(len, labels), default=0) + 8
    # All plots have the same area for their lines, so that they can be compared.
    left, top, bottom, area = 60, 36, 34, 510
    height = 260
    edge = left + area
    width = math.ceil(edge + max(legend, 190))
    last = max((points[-1][0] for points in plot.values() if points), default=1) or 1
    steps = ticks(max((value for points in plot.values() for _, value in points), default=1))
    x = lambda at: left + area * at / last
    y = lambda value: height - bottom - (height - top - bottom) * value / steps[-1]

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
           f'font-family="sans-serif" font-size="{size}">',
           f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
           f'<text x="{left}" y="20" font-size="14" font-weight="bold">'
           f'{html.escape(f"{title} ({unit})" if unit else title)}</text>']
    for value in steps:
        stroke = "#dddddd" if value else "#888888"
        out.append(f'<line x1="{left}" y1="{y(value):.1f}" x2="{edge}" y2="{y(value):.1f}" '
                   f'stroke="{stroke}"/>')
        out.append(f'<text x="{left - 6}" y="{y(value) + 4:.1f}" text-anchor="end">'
                   f'{value:g}</text>')
    for at in times(last):
        out.append(f'<line x1="{x(at):.1f}" y1="{height - bottom}" x2="{x(at):.1f}" '
                   f'y2="{height - bottom + 4}" stroke="#888888"/>')
        out.append(f'<text x="{x(at):.1f}" y="{height - bottom + 18}" text-anchor="middle">'
                   f'{at:g} s</text>')

    styles = colours(labels)
    # Solid lines first, so that they do not hide the others.
    for index, label in sorted(enumerate(labels), key=lambda line: styles[line[1]][1] != ""):
        colour, dashes = styles[label]
        dashes = f' stroke-dasharray="{dashes}"' if dashes else ""
        style = f'fill="none" stroke="{colour}" stroke-width="1.8"{dashes}'
        for part in parts(plot[label]):
            line = " ".join(f"{x(at):.1f},{y(value):.1f}" for at, value in part)
            out.append(f'<polyline points="{line}" {style}/>')
        at = top + 10 + 17 * index
        out.append(f'<line x1="{edge + 10}" y1="{at}" x2="{edge + 28}" y2="{at}" {style}/>')
        out.append(f'<text x="{edge + 34}" y="{at + 4}">{html.escape(label)}</text>')
    out.append("</svg>")
    (folder / f"{name}.svg").write_text("\n".join(out) + "\n")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    recording = commands.add_parser("record", help="query a Prometheus, and draw")
    recording.add_argument("prometheus", metavar="URL")
    recording.add_argument("--minutes", type=float, default=5)
    drawing = commands.add_parser("draw", help="draw the recorded series")
    for command in (recording, drawing):
        command.add_argument("--folder", type=pathlib.Path, default=FOLDER)
    arguments = parser.parse_args()

    folder = arguments.folder
    if arguments.command == "record":
        record(folder, arguments.prometheus.rstrip("/"), arguments.minutes)
    run = json.loads((folder / "run.json").read_text())
    for name in PLOTS:
        draw(folder, name, run.get(name, {}))


if __name__ == "__main__":
    main()

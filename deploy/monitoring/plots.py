#!/usr/bin/env python3
"""Draws the plots of docs/observability.md from the series of a Prometheus that scrapes ecr-sync, or from a recording.

    deploy/monitoring/plots.py record http://127.0.0.1:9090 --minutes 5    # queries Prometheus, writes docs/plots/run.json
    deploy/monitoring/plots.py draw                                      # writes docs/plots/*.svg from run.json

Needs only Python 3.
"""
import argparse
import html
import json
import pathlib
import time
import urllib.parse
import urllib.request

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "docs" / "plots"
COLOURS = ["#1f6feb", "#d4351c", "#00703c", "#f47738", "#4c2c92", "#b58840", "#28a197", "#801650"]
PLOTS = {
    "sync": ("Wanted tags", "tags", "sum by (state) (ecrsync_tags)", "state"),
    "queue": ("Waiting and running passes", "passes",
              'label_replace(sum(workqueue_depth), "of", "waiting", "", "") or '
              'label_replace(sum(controller_runtime_active_workers), "of", "running", "", "")', "of"),
    "aws": ("AWS calls", "calls/s", "sum by (operation) (rate(ecrsync_aws_requests_total[15s])) > 0", "operation"),
    "bytes": ("Bytes sent to ECR", "MB/s", 'label_replace(sum(rate(ecrsync_copied_bytes_total[15s])) / 1e6, "of", "bytes", "", "")', "of"),
    "throttle": ("Waiting for own rate limits", "s/s", "sum by (action) (rate(ecrsync_throttle_wait_seconds_total[15s]))", "action"),
}


def record(prometheus, minutes):
    """Queries all series of the last minutes, with one point per second."""
    end = time.time()
    run = {}
    for name, (_, _, expression, label) in PLOTS.items():
        query = {"query": expression, "start": end - 60 * minutes, "end": end, "step": 1}
        with urllib.request.urlopen(f"{prometheus}/api/v1/query_range?{urllib.parse.urlencode(query)}") as answer:
            result = json.load(answer)["data"]["result"]
        run[name] = {series["metric"].get(label, label): [[at, float(value)] for at, value in series["values"]] for series in result}
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "run.json").write_text(json.dumps(rebased(run), separators=(",", ":")) + "\n")


def rebased(run):
    """Returns the series with times in seconds since the first point, so that a recording does not depend on its date."""
    starts = [points[0][0] for plot in run.values() for points in plot.values() if points]
    start = min(starts, default=0)
    return {name: {label: [[round(at - start), round(value, 4)] for at, value in points] for label, points in plot.items()}
            for name, plot in run.items()}


def nice(top):
    """Returns the smallest of 1, 2, 5 x 10^n that is not below `top`."""
    if top <= 0:
        return 1
    power = 10 ** (len(str(int(top))) - 1) if top >= 1 else 10 ** -len(str(int(1 / top)))
    return next(step * power for step in (1, 2, 5, 10, 20, 50, 100) if step * power >= top)


def parts(points):
    """Splits the points at gaps, so that no line is drawn where a series has no points."""
    found = []
    for at, value in points:
        if not found or at - found[-1][-1][0] > 2:
            found.append([])
        found[-1].append((at, value))
    return found


def draw(name, plot):
    """Writes one plot as SVG: lines over seconds, with a legend."""
    title, unit, _, _ = PLOTS[name]
    width, height, left, right, top, bottom = 760, 260, 60, 190, 36, 34
    last = max((points[-1][0] for points in plot.values() if points), default=1) or 1
    most = nice(max((value for points in plot.values() for _, value in points), default=1))
    x = lambda at: left + (width - left - right) * at / last
    y = lambda value: height - bottom - (height - top - bottom) * value / most
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
           f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
           f'<text x="{left}" y="20" font-size="14" font-weight="bold">{html.escape(title)}</text>']
    for part in range(5):
        value = most * part / 4
        out.append(f'<line x1="{left}" y1="{y(value):.1f}" x2="{width - right}" y2="{y(value):.1f}" stroke="#dddddd"/>')
        out.append(f'<text x="{left - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value:g}</text>')
        at = last * part / 4
        out.append(f'<text x="{x(at):.1f}" y="{height - bottom + 18}" text-anchor="middle">{at:.0f} s</text>')
    out.append(f'<text x="{left - 6}" y="{top - 4}" text-anchor="end">{html.escape(unit)}</text>')
    for index, (label, points) in enumerate(sorted(plot.items())):
        colour = COLOURS[index % len(COLOURS)]
        for part in parts(points):
            line = " ".join(f"{x(at):.1f},{y(value):.1f}" for at, value in part)
            out.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        at = top + 4 + 17 * index
        out.append(f'<rect x="{width - right + 14}" y="{at}" width="11" height="11" fill="{colour}"/>')
        out.append(f'<text x="{width - right + 31}" y="{at + 10}">{html.escape(label)}</text>')
    out.append("</svg>")
    (FOLDER / f"{name}.svg").write_text("\n".join(out) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    recording = commands.add_parser("record", help="query a Prometheus, and draw")
    recording.add_argument("prometheus", metavar="URL")
    recording.add_argument("--minutes", type=float, default=5)
    commands.add_parser("draw", help="draw the recorded series")
    arguments = parser.parse_args()
    if arguments.command == "record":
        record(arguments.prometheus.rstrip("/"), arguments.minutes)
    run = json.loads((FOLDER / "run.json").read_text())
    for name in PLOTS:
        draw(name, run.get(name, {}))


if __name__ == "__main__":
    main()

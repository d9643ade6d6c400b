"""Draws dashboards of charts/grafana, as they are laid out there, from recordings of what their queries were answered: make pictures.

Usage: pictures.py DASHBOARDS RECORDINGS IMAGES, which are folders.
"""

import glob
import io
import json
import math
import os
import re
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.patches import Rectangle
from PIL import Image

# Pixels of one of the 24 columns, and of a row of the grid; between panels; at the top, for title and variables.
COLUMN, ROW, GAP, HEAD = 46, 30, 6, 58
DPI = 100
INK, FAINT, PAPER = "#24292e", "#6a737d", "#f4f5f5"
# Those that Grafana gives to series, in its order.
COLORS = ["#56a64b", "#f2cc0c", "#3274d9", "#ff780a", "#e02f44", "#8f3bb8", "#37872d", "#1f78c1", "#ba43a9", "#705da0"]
NAMED = {"blue": "#1f60c4", "green": "#37872d", "red": "#c4162a", "orange": "#fa6400", "yellow": "#e0b400", "text": INK}


def short(value, digits=3):
    """A number as people read it, without more digits than count."""
    if value == 0:
        return "0"
    for limit, suffix in ((1e9, " G"), (1e6, " M"), (1e4, " K")):
        if abs(value) >= limit:
            return f"{value / limit * (10 if limit == 1e4 else 1):.{digits}g}{suffix}"
    return f"{value:.{digits}g}"


def binary(value):
    for power, suffix in ((3, " GiB"), (2, " MiB"), (1, " KiB")):
        if abs(value) >= 1024**power:
            return f"{value / 1024**power:.3g}{suffix}"
    return f"{value:.3g} B"


def duration(value):
    if value and abs(value) < 1:
        return f"{value * 1000:.3g} ms"
    return f"{value / 60:.3g} min" if abs(value) >= 120 else f"{value:.3g} s"


UNITS = {
    "percentunit": lambda v: f"{v * 100:.4g}%",
    "percent": lambda v: f"{v:.3g}%",
    "bytes": binary,
    "Bps": lambda v: binary(v) + "/s",
    "s": duration,
    "reqps": lambda v: short(v) + " req/s",
    "ops": lambda v: short(v) + " ops/s",
}


def legend(target, labels):
    """The name of a series, as the legend format of its query has it."""
    text = target.get("legendFormat", "__auto")
    if text == "__auto":
        return ", ".join(f"{k}={v}" for k, v in sorted(labels.items())) or target["refId"]
    return re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda found: labels.get(found.group(1), ""), text)


def numbers(line):
    """The points of a line, which is broken where there were none."""
    points = [(x, math.nan if y is None else y) for x, y in line["points"]]
    step = min((b[0] - a[0] for a, b in zip(points, points[1:])), default=0)
    whole = points[:1]
    for before, point in zip(points, points[1:]):
        if point[0] - before[0] > 1.5 * step:
            whole.append((before[0] + step, math.nan))
        whole.append(point)
    return whole


class Picture:
    """One dashboard."""

    def __init__(self, dashboard, recording):
        self.dashboard, self.recording = dashboard, recording
        bottom = max(p["gridPos"]["y"] + p["gridPos"]["h"] for p in dashboard["panels"])
        self.width, self.height = 24 * COLUMN + 2 * GAP, bottom * ROW + HEAD + GAP
        self.figure = plt.figure(figsize=(self.width / DPI, self.height / DPI), dpi=DPI, facecolor=PAPER)

    def text(self, x, y, text, **how):
        """Writes at a place in pixels from the left and from the top."""
        self.figure.text(x / self.width, 1 - y / self.height, text, **{"color": INK, "fontsize": 8, "va": "center", **how})

    def axes(self, x, y, w, h):
        return self.figure.add_axes((x / self.width, 1 - (y + h) / self.height, w / self.width, h / self.height), facecolor="none")

    def draw(self):
        self.text(GAP + 4, 18, self.dashboard["title"], fontsize=13, weight="bold")
        values = "    ".join(f"{name}: {value}" for name, value in self.recording["values"].items())
        self.text(GAP + 4, 42, values, color=FAINT)
        for panel in self.dashboard["panels"]:
            grid = panel["gridPos"]
            box = (GAP + grid["x"] * COLUMN, HEAD + grid["y"] * ROW, grid["w"] * COLUMN, grid["h"] * ROW)
            if panel["type"] == "row":
                self.text(box[0] + 4, box[1] + ROW / 2, "▾ " + panel["title"], fontsize=9.5, weight="bold")
                continue
            x, y, w, h = box[0] + GAP / 2, box[1] + GAP / 2, box[2] - GAP, box[3] - GAP
            self.figure.add_artist(
                Rectangle((x / self.width, 1 - (y + h) / self.height), w / self.width, h / self.height, facecolor="white", edgecolor="#d8d9da", lw=0.8, zorder=-1)
            )
            title, fits = panel["title"], int((w - 12) / 7.6)
            self.text(x + 8, y + 13, title if len(title) <= fits else title[: fits - 1] + "…", fontsize=8.5, weight="bold")
            lines = []
            for target in panel["targets"]:
                for line in self.recording["panels"].get(str(panel["id"]), {}).get(target["refId"]) or []:
                    lines.append((legend(target, line["labels"]), line))
            getattr(self, panel["type"])(panel, lines, (x, y + 24, w, h - 24))

    def format(self, panel):
        return UNITS.get(panel["fieldConfig"]["defaults"].get("unit"), short)

    def stat(self, panel, lines, box):
        x, y, w, h = box
        shown = [y for _, line in lines for _, y in numbers(line) if not math.isnan(y)]
        text = self.format(panel)(shown[-1]) if shown else panel["fieldConfig"]["defaults"].get("noValue", "No data")
        steps = panel["fieldConfig"]["defaults"].get("thresholds", {}).get("steps", [])
        color = INK
        for step in steps:
            if step["value"] is None or (shown and shown[-1] >= step["value"]):
                color = NAMED.get(step["color"], step["color"])
        # The graph is for numbers that were asked for all the time.
        if len(shown) > 1 and panel["options"].get("graphMode") == "area":
            axes = self.axes(x + 2, y + h * 0.55, w - 4, h * 0.42)
            axes.axis("off")
            points = numbers(lines[0][1])
            axes.plot(*zip(*points), color=color, lw=1)
            axes.fill_between(*zip(*points), min(shown), color=color, alpha=0.12, lw=0)
            axes.set_xlim(0, self.recording["end"] - self.recording["start"])
        self.text(x + w / 2, y + h * 0.36, text, fontsize=15, weight="bold", color=color, ha="center")

    def table(self, panel, lines, box):
        x, y, w, h = box
        names = {}
        for change in panel.get("transformations", []):
            names.update(change["options"].get("renameByName", {}))
        columns = list(names) or sorted({label for _, line in lines for label in line["labels"]})
        rows = [[str(numbers(line)[-1][1]) if c == "Value" else line["labels"].get(c, "") for c in columns] for _, line in lines]
        wide = w / max(1, len(columns))
        for i, column in enumerate(columns):
            self.text(x + 10 + i * wide, y + 12, names.get(column, column), weight="bold", color=NAMED["blue"])
            for j, row in enumerate(rows[: int(h // 22) - 1]):
                self.text(x + 10 + i * wide, y + 34 + j * 22, row[i])

    def timeseries(self, panel, lines, box):
        x, y, w, h = box
        defaults, form = panel["fieldConfig"]["defaults"], self.format(panel)
        places = self.places([name for name, _ in lines], w)
        rows = places[-1][1] + 1 if places else 0
        axes = self.axes(x + 62, y + 4, w - 76, h - 26 - 15 * rows)
        stacked = defaults.get("custom", {}).get("stacking", {}).get("mode") == "normal"
        base = None
        for i, (_, line) in enumerate(lines):
            color = COLORS[i % len(COLORS)]
            xs, ys = zip(*numbers(line)) if line["points"] else ((), ())
            if stacked and base is not None and len(base) == len(ys):
                ys = [a + b for a, b in zip(base, ys)]
            base = ys if stacked else None
            axes.plot(xs, ys, color=color, lw=1.1)
            if not any(y < 0 for y in ys):
                axes.fill_between(xs, ys, 0, color=color, alpha=defaults.get("custom", {}).get("fillOpacity", 0) / 100, lw=0)
        self.scales(axes, defaults, form, lines)
        # Each name has the color of its line.
        for i, (left, row) in enumerate(places):
            top = y + h - 15 * (rows - row) + 5
            self.text(x + left, top, "▬", color=COLORS[i % len(COLORS)], fontsize=8)
            self.text(x + left + 14, top, lines[i][0], fontsize=7.2, color=FAINT)

    def places(self, names, w):
        """Where the names of lines go, from the left and in which row, as far as three rows have room for them."""
        places, left, row = [], 12, 0
        for name in names:
            need = 22 + 5.6 * len(name)
            if left + need > w and left > 12:
                left, row = 12, row + 1
            if row == 3:
                break
            places.append((left, row))
            left += need
        return places

    def scales(self, axes, defaults, form, lines):
        seconds = self.recording["end"] - self.recording["start"]
        axes.set_xlim(0, seconds)
        low, high = axes.get_ylim()
        axes.set_ylim(defaults.get("min", low if low < 0 else 0), defaults.get("max", high if high > 0 else 1))
        step = next(s for s in (15, 30, 60, 120, 300) if seconds / s <= 8)
        axes.set_xticks([s for s in range(0, int(seconds) + 1, step)])
        axes.xaxis.set_major_formatter(lambda s, _: f"{int(s) // 60}:{int(s) % 60:02d}")
        axes.yaxis.set_major_locator(plt.MaxNLocator(4))
        axes.yaxis.set_major_formatter(lambda v, _: form(v))
        axes.tick_params(labelsize=6.8, colors=FAINT, length=0)
        axes.grid(color="#ebecec", lw=0.7)
        for spine in axes.spines.values():
            spine.set_visible(False)
        if not lines:
            axes.text(0.5, 0.5, "No data", transform=axes.transAxes, ha="center", color=FAINT, fontsize=8)

    def save(self, path):
        """Saves with a palette, which is a third of the size."""
        raw = io.BytesIO()
        self.figure.savefig(raw, dpi=DPI, facecolor=PAPER, metadata={"Software": None})
        plt.close(self.figure)
        Image.open(raw).convert("RGB").quantize(160, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(path, optimize=True)


def main(dashboards, recordings, images):
    plt.rcParams["font.family"] = "DejaVu Sans"
    os.makedirs(images, exist_ok=True)
    for path in sorted(glob.glob(os.path.join(recordings, "*.json"))):
        name = os.path.basename(path)
        with open(os.path.join(dashboards, name)) as dashboard, open(path) as recording:
            picture = Picture(json.load(dashboard), json.load(recording))
        picture.draw()
        picture.save(os.path.join(images, name.removesuffix(".json") + ".png"))


if __name__ == "__main__":
    main(*sys.argv[1:])

#!/usr/bin/env python3
"""Pictures (SVG) from results of decode_step and torch_sdpa.py, or of `tandem eval window`.

usage: plot.py RESULT.json [RESULT.json ..] [--out FOLDER] [--tokens N]

error_bytes.svg   mean error against the bytes that a step touches, one mark per configuration of one context (the longest,
                  or --tokens); exact methods are vertical lines, since their error has no place on the scale
time_context.svg  median step time against the context, both logarithmic: a line per configuration with the exponent that
                  fits it, and its floor dashed
error_window.svg  from `tandem eval window`: mean error against the bytes that a token and KV head takes in the window, both
                  logarithmic: a mark per cell with its codec, a colour per policy, hollow without a host tier

Needs matplotlib: python3 -m pip install matplotlib
"""
import argparse
import json
import math
import pathlib
import sys

EXACT = 1e-4  # an error below this is rounding
MIB = 1 << 20


def results_of(paths):
    """Rows of decode_step, cells of eval window."""
    rows, cells = [], []
    for path in paths:
        with open(path, encoding="utf-8") as file:
            result = json.load(file)
        if "cells" in result:
            # Cells of another model (--dmc-model) are compared with nothing.
            cells += [cell for cell in result["cells"] if "refused" not in cell and cell["error"]["mean"] is not None]
        else:
            rows += result["rows"]
    return rows, cells


def label_of(row, rows):
    """The name, and what else distinguishes the configurations of `rows`."""
    parts = [row["name"]]
    for field, text in (("threads", "{} thr"), ("batch", "batch {}"), ("host_dtype", "{}")):
        if len({other[field] for other in rows}) > 1:
            parts.append(text.format(row[field]))
    return ", ".join(parts)


def exponent(points):
    """Least-squares slope of log y over log x; None for fewer than two different x."""
    logs = [(math.log(x), math.log(y)) for x, y in points if x > 0 and y > 0]
    if len({x for x, _ in logs}) < 2:
        return None
    mean_x = sum(x for x, _ in logs) / len(logs)
    mean_y = sum(y for _, y in logs) / len(logs)
    return sum((x - mean_x) * (y - mean_y) for x, y in logs) / sum((x - mean_x) ** 2 for x, _ in logs)


def lines_of(rows):
    """Label -> rows of one configuration by context."""
    lines = {}
    for row in sorted(rows, key=lambda row: row["tokens"]):
        lines.setdefault(label_of(row, rows), []).append(row)
    return lines


def plain_scale(axis):
    """Logarithmic, with numbers that read like numbers at 1, 2 and 5."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axis.set_minor_formatter(NullFormatter())


def tokens_text(tokens):
    for unit, size in (("M", MIB), ("K", 1 << 10)):
        if tokens % size == 0:
            return f"{tokens // size}{unit}"
    return str(tokens)


def finish(axes, folder, name):
    plain_scale(axes.yaxis)
    axes.grid(True, which="both", linewidth=0.3, alpha=0.5)
    axes.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1.01, 0.5))
    axes.figure.savefig(folder / name, bbox_inches="tight", metadata={"Date": None})


def plot_error(plt, rows, tokens, folder):
    rows = [row for row in rows if row["tokens"] == tokens]
    figure, axes = plt.subplots(figsize=(6, 4.2))
    for index, row in enumerate(rows):
        style = {"color": f"C{index % 10}", "label": label_of(row, rows)}
        mib = row["bytes_per_step"] / MIB
        if row["error"]["mean"] < EXACT:
            axes.axvline(mib, linestyle=":", **style)
        else:
            axes.plot([mib], [row["error"]["mean"]], marker="osD^vPX*"[index % 8], linestyle="", **style)
    axes.set(xscale="log", yscale="log", xlabel="MiB touched by a step of one layer", ylabel="error, mean",
             title=f"Error against bytes, {tokens:,} tokens (dotted: exact)")
    plain_scale(axes.xaxis)
    finish(axes, folder, "error_bytes.svg")
    plt.close(figure)


def plot_time(plt, rows, folder):
    figure, axes = plt.subplots(figsize=(6, 4.2))
    for index, (label, line) in enumerate(lines_of(rows).items()):
        points = [(row["tokens"], row["us"]["median"]) for row in line]
        slope = exponent(points)
        text = label if slope is None else f"{label}: tokens^{slope:.2f}"
        colour = f"C{index % 10}"
        axes.plot(*zip(*points), marker="o", markersize=4, color=colour, label=text)
        floors = [(row["tokens"], row["floor_us"]) for row in line if row["floor_us"] > 0]
        if floors:
            axes.plot(*zip(*floors), linestyle="--", linewidth=0.9, color=colour)
    axes.set(xscale="log", yscale="log", xlabel="tokens", ylabel="us per step of one layer, median",
             title="Step time against context (dashed: floor)")
    contexts = sorted({row["tokens"] for row in rows})
    axes.set_xticks(contexts, [tokens_text(tokens) for tokens in contexts])
    axes.minorticks_off()
    finish(axes, folder, "time_context.svg")
    plt.close(figure)


def plot_window(plt, cells, folder):
    figure, axes = plt.subplots(figsize=(7, 4.6))
    policies = list(dict.fromkeys(cell["policy"] for cell in cells))
    for cell in cells:
        index = policies.index(cell["policy"])
        hollow = cell["host_tier"] == "off"
        point = (cell["bytes_per_token"], max(cell["error"]["mean"], EXACT / 100))
        axes.plot(*point, marker="osD^vPX*"[index % 8], linestyle="", color=f"C{index % 10}",
                  markerfacecolor="none" if hollow else f"C{index % 10}")
        axes.annotate(cell["codec"], point, textcoords="offset points", xytext=(4, 3), fontsize=6,
                      color=f"C{index % 10}")
    for index, policy in enumerate(policies):
        for hollow in sorted({cell["host_tier"] == "off" for cell in cells if cell["policy"] == policy}):
            axes.plot([], [], marker="osD^vPX*"[index % 8], linestyle="", color=f"C{index % 10}",
                      markerfacecolor="none" if hollow else f"C{index % 10}",
                      label=policy + (", no host tier" if hollow else ""))
    axes.set(xscale="log", yscale="log", xlabel="bytes per token and KV head in the window", ylabel="error, mean",
             title="Output error against bytes, same q, k and v")
    axes.margins(x=0.12)  # room for the labels
    plain_scale(axes.xaxis)
    finish(axes, folder, "error_window.svg")
    plt.close(figure)


def main(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+")
    parser.add_argument("--out", default=".", help="folder of the pictures, made if missing [.]")
    parser.add_argument("--tokens", type=int, default=0, help="context of error_bytes.svg; 0: the longest [0]")
    options = parser.parse_args(arguments)
    try:
        rows, cells = results_of(options.results)
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"plot.py: cannot read results: {error}", file=sys.stderr)
        return 2
    tokens = options.tokens or max((row["tokens"] for row in rows), default=0)
    if not any(row["tokens"] == tokens for row in rows) and (rows or not cells):
        print(f"plot.py: no row has {tokens} tokens", file=sys.stderr)
        return 2
    try:
        import matplotlib
    except ImportError:
        print("plot.py: matplotlib is missing; python3 -m pip install matplotlib", file=sys.stderr)
        return 2
    matplotlib.use("Agg")
    matplotlib.rcParams.update({"svg.hashsalt": "tandem", "svg.fonttype": "none", "font.size": 9})  # same bytes each time
    import matplotlib.pyplot as plt

    folder = pathlib.Path(options.out)
    folder.mkdir(parents=True, exist_ok=True)
    if rows:
        plot_error(plt, rows, tokens, folder)
        plot_time(plt, rows, folder)
        print(f"{folder / 'error_bytes.svg'}\n{folder / 'time_context.svg'}")
    if cells:
        plot_window(plt, cells, folder)
        print(folder / "error_window.svg")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

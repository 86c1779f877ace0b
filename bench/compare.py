#!/usr/bin/env python3
"""Compares two result files, before and after a change: of decode_step (or torch_sdpa.py), or of Google Benchmark.

usage: compare.py BEFORE.json AFTER.json [--threshold PERCENT] [--error-threshold PERCENT]

A row is slower when its median and its minimum both grew by more than the threshold: on a machine with other work the
median alone says little, and is called noise. Where a file has one time per row, that time decides. Errors count as
worse when their mean grew by more than the error threshold and is above 1e-4. Rows that only one file has are listed.

Exit status: 0 nothing is slower or worse, 1 something is, 2 bad usage or files that cannot be compared.
"""
import argparse
import json
import math
import sys

KEY = ("name", "tokens", "threads", "batch", "host_dtype", "cold")
TO_US = {"ns": 1e-3, "us": 1, "ms": 1e3, "s": 1e6}
IRRELEVANT_ERROR = 1e-4


class BadFile(Exception):
    pass


def decode_step_rows(report):
    """Key -> median and minimum in us, mean error."""
    rows = {}
    for row in report["rows"]:
        key = " ".join(str(row[field]) for field in KEY if field in row)
        rows[key] = {"us": row["us"]["median"], "min": row["us"]["min"], "error": row["error"]["mean"]}
    return rows


def google_rows(report):
    """Name -> time in us; the median of repetitions where they were aggregated."""
    rows = {}
    for row in report["benchmarks"]:
        if row.get("error_occurred"):
            continue
        aggregate = row.get("run_type") == "aggregate"
        if aggregate and row.get("aggregate_name") != "median":
            continue
        name = row.get("run_name", row["name"])
        us = row["real_time"] * TO_US[row.get("time_unit", "ns")]
        if aggregate or name not in rows:
            rows[name] = {"us": us}
    return rows


def read_rows(path):
    try:
        with open(path, encoding="utf-8") as file:
            report = json.load(file)
        if "rows" in report:
            return decode_step_rows(report)
        if "benchmarks" in report:
            return google_rows(report)
        raise BadFile(f"{path}: neither a decode_step nor a Google Benchmark result")
    except (OSError, ValueError) as error:
        raise BadFile(f"{path}: {error}") from error
    except (KeyError, TypeError) as error:
        raise BadFile(f"{path}: a row lacks {error}") from error


def ratio(before, after):
    return after / before if before > 0 else math.inf if after > 0 else 1.0


def verdict(before, after, threshold, error_threshold):
    """What became of one row, and whether that fails the comparison."""
    if "error" in before and "error" in after:
        if after["error"] > IRRELEVANT_ERROR and ratio(before["error"], after["error"]) > 1 + error_threshold:
            return "WORSE ERROR", True
    times = [ratio(before[name], after[name]) for name in ("us", "min") if name in before and name in after]
    if min(times) > 1 + threshold:
        return "SLOWER", True
    if max(times) < 1 / (1 + threshold):
        return "faster", False
    return ("noise" if times[0] > 1 + threshold else ""), False


def compare(before, after, threshold, error_threshold):
    """Lines of the table, and whether anything failed."""
    width = max((len(key) for key in before | after), default=4)
    lines = [f"{'':{width}}  {'before us':>12} {'after us':>12} {'change':>8}  {'error before':>12} {'after':>9}"]
    failed = False
    for key in sorted(before.keys() & after.keys()):
        old, new = before[key], after[key]
        word, fails = verdict(old, new, threshold, error_threshold)
        failed |= fails
        errors = f"{old['error']:12.3g} {new['error']:9.3g}" if "error" in old and "error" in new else " " * 22
        change = 100 * (ratio(old["us"], new["us"]) - 1)
        lines.append(f"{key:{width}}  {old['us']:12.1f} {new['us']:12.1f} {change:+7.1f}%  {errors}  {word}".rstrip())
    lines += [f"{key:{width}}  only before" for key in sorted(before.keys() - after.keys())]
    lines += [f"{key:{width}}  only after" for key in sorted(after.keys() - before.keys())]
    return lines, failed


def main(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before")
    parser.add_argument("after")
    parser.add_argument("--threshold", type=float, default=5, help="percent of time that is still no change [5]")
    parser.add_argument("--error-threshold", type=float, default=10, help="percent of error that is still none [10]")
    options = parser.parse_args(arguments)
    try:
        before, after = read_rows(options.before), read_rows(options.after)
        if not before.keys() & after.keys():
            raise BadFile(f"{options.before} and {options.after} have no row in common")
    except BadFile as error:
        print(f"compare.py: {error}", file=sys.stderr)
        return 2
    lines, failed = compare(before, after, options.threshold / 100, options.error_threshold / 100)
    print("\n".join(lines))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

#!/usr/bin/env python3
"""Which lines of the library does the suite run? Builds with counters, runs the tests, and prints a table.

Takes about as long as the quick tier. Kernels are counted once per instruction set that ran, and a line counts as run
when any of them ran it.
"""
import argparse
import collections
import gzip
import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
LAYERS = ("runtime", "numa", "cpu", "lsh", "gpu")


def run(*command):
    if subprocess.run(command, cwd=ROOT, check=False).returncode != 0:
        sys.exit(f"failed: {' '.join(command)}")


def count_lines(build):
    """{file: {line: times run}} of the layers' own sources."""
    lines = collections.defaultdict(collections.Counter)
    counters = [path for layer in LAYERS for path in (build / layer).rglob("*.gcda")]
    if not counters:
        sys.exit(f"{build} has no counters: run without --report-only first")
    for path in counters:
        output = subprocess.run(["gcov", "--json-format", "--stdout", str(path)], check=True, capture_output=True).stdout
        text = gzip.decompress(output) if output[:2] == b"\x1f\x8b" else output
        for file in json.loads(text)["files"]:
            name = pathlib.Path(file["file"])
            name = name if name.is_absolute() else build / name
            if ROOT not in name.parents or name.relative_to(ROOT).parts[0] not in LAYERS:
                continue
            for line in file["lines"]:
                lines[str(name.relative_to(ROOT))][line["line_number"]] += line["count"]
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--report-only", action="store_true", help="use the counters of an earlier run")
    parser.add_argument("--least", type=float, default=85, help="percent below which a file is listed [85]")
    parser.add_argument("--jobs", default="2", help="of the build [2]")
    arguments = parser.parse_args()
    build = ROOT / "build" / "coverage"
    if not arguments.report_only:
        run("cmake", "--preset", "coverage")
        run("cmake", "--build", "--preset", "coverage", "-j", arguments.jobs)
        run("ctest", "--preset", "coverage", "-LE", "checks")
    lines = count_lines(build)
    by_layer = collections.defaultdict(lambda: [0, 0])
    print(f"{'file':50} {'lines':>6} {'run':>6}")
    for file in sorted(lines):
        total, covered = len(lines[file]), sum(1 for count in lines[file].values() if count > 0)
        layer = by_layer[file.split("/")[0]]
        layer[0] += total
        layer[1] += covered
        if 100 * covered < arguments.least * total:
            missed = [str(number) for number, count in sorted(lines[file].items()) if count == 0]
            print(f"{file:50} {total:6} {100 * covered / total:5.1f}%  not run: {', '.join(missed[:20])}"
                  + (" .." if len(missed) > 20 else ""))
    print()
    for layer, (total, covered) in by_layer.items():
        print(f"{layer:50} {total:6} {100 * covered / total:5.1f}%")


if __name__ == "__main__":
    main()

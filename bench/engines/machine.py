"""What options and reports of bench/engines have in common."""
import argparse
import datetime
import json
import os
import pathlib
import platform
import sys


def tokens_of(text):
    """A number of tokens, in which K stands for 1,024."""
    try:
        tokens = int(text[:-1]) * 1024 if text[-1:] in "Kk" else int(text)
    except ValueError:
        tokens = 0
    if tokens < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no number of tokens; allowed: 1 or more, e.g. 4096 or 4K")
    return tokens


def processor():
    lines = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def usable_cores():
    return len(os.sched_getaffinity(0))


def free_bytes():
    """What the system could give to a process now."""
    for line in pathlib.Path("/proc/meminfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/meminfo has no MemAvailable")


def write_report(path, benchmark, **fields):
    now = datetime.datetime.now(datetime.timezone.utc).isoformat("T", "seconds")
    report = {"benchmark": benchmark, "date": now, "command": sys.argv, **fields}
    pathlib.Path(path).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")

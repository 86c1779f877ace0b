#!/usr/bin/env python3
"""Puts everything that is known of a machine with a GPU into one file: FOLDER/profile.json.

usage: machine_profile.py [--gpu N] [--toolkit VERSION] FOLDER

The processor, its NUMA nodes and memory, the GPU and its driver, and every JSON of FOLDER (gpu_bench, decode_step, ..)
under its name; "figures" has those that a model of the machine needs, where gpu_bench measured them.

Exit status: 0, 2 for a FOLDER without any result.
"""
import argparse
import datetime
import json
import pathlib
import platform
import re
import subprocess
import sys

GPU_FIELDS = ("name", "uuid", "driver_version", "vbios_version", "memory.total", "clocks.max.sm", "clocks.max.memory",
              "power.limit", "pcie.link.gen.max", "pcie.link.width.max", "pci.bus_id", "ecc.mode.current",
              "temperature.gpu")
NODES = pathlib.Path("/sys/devices/system/node")


def output(*command):
    """What a command says; nothing where it is missing or fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def first_line(path):
    try:
        return path.read_text(encoding="utf-8").split("\n", 1)[0].strip()
    except OSError:
        return ""


def processor():
    fields = json.loads(output("lscpu", "-J") or '{"lscpu": []}')["lscpu"]
    return {field["field"].rstrip(":"): field["data"] for field in fields if field.get("data")}


def numa_nodes():
    """Processors and bytes of memory by node; none where the kernel knows no nodes."""
    nodes = {}
    for folder in sorted(NODES.glob("node[0-9]*"), key=lambda path: int(path.name[4:])):
        total = re.search(r"MemTotal:\s*(\d+) kB", first_line(folder / "meminfo"))
        nodes[folder.name] = {"cpus": first_line(folder / "cpulist"), "distances": first_line(folder / "distance"),
                              "memory_bytes": int(total[1]) * 1024 if total else None}
    return nodes


def gpu(ordinal):
    """By field as nvidia-smi names it; the NUMA node that the GPU hangs on is that of its PCI device."""
    known = {}
    for field in GPU_FIELDS:  # one by one: an old nvidia-smi refuses all for one that it does not know
        value = output("nvidia-smi", f"--id={ordinal}", f"--query-gpu={field}", "--format=csv,noheader")
        if value:
            known[field] = value
    bus = known.get("pci.bus_id", "").lower()[-12:]
    node = first_line(pathlib.Path("/sys/bus/pci/devices") / bus / "numa_node") if bus else ""
    return {**known, "numa_node": int(node) if node.lstrip("-").isdigit() else None,
            "topology": output("nvidia-smi", "topo", "-m").split("\n")}


def figures(bench):
    """GB/s and us at the median; us of windows by format, of the longest and smallest batch that was measured."""
    bandwidth = bench["bandwidth"]
    longest = max((row["tokens"] for row in bench["rows"]), default=0)
    smallest = min((row["batch"] for row in bench["rows"]), default=0)
    return {"copy_gb_per_s": bandwidth["copy"]["gb_per_s"]["median"],
            "read_gb_per_s": bandwidth["read"]["gb_per_s"]["median"],
            "to_device_gb_per_s": bandwidth["to_device"][-1]["gb_per_s"]["median"],
            "to_host_gb_per_s": bandwidth["to_host"][-1]["gb_per_s"]["median"],
            "launch_us": bench["launches"]["call_us"]["median"],
            "hand_off_us": {trip["became"]: trip["us"]["median"] for trip in bench["hand_offs"] if trip["kernel"]},
            "hand_off_p99_us": {trip["became"]: trip["us"]["p99"] for trip in bench["hand_offs"] if trip["kernel"]},
            "window_tokens": longest,
            "window_us": {row["name"]: row["us"]["median"] for row in bench["rows"]
                          if row["tokens"] == longest and row["batch"] == smallest},
            "emulated": bench["emulated"]}


def profile(folder, ordinal, toolkit):
    results = {}
    for path in sorted(folder.glob("*.json")):
        if path.name != "profile.json" and not path.stem.endswith("timeline"):
            results[path.stem] = json.loads(path.read_text(encoding="utf-8"))
    now = datetime.datetime.now(datetime.timezone.utc)
    return {"date": now.strftime("%Y-%m-%dT%H:%M:%SZ"), "kernel": platform.platform(), "processor": processor(),
            "numa_nodes": numa_nodes(), "gpu": gpu(ordinal), "toolkit": toolkit,
            "figures": figures(results["gpu_bench"]) if "gpu_bench" in results else None, "results": results}


def main(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--gpu", type=int, default=0, help="as nvidia-smi counts [0]")
    parser.add_argument("--toolkit", default="", help="version of CUDA that the programs were built with")
    options = parser.parse_args(arguments)
    whole = profile(options.folder, options.gpu, options.toolkit)
    if not whole["results"]:
        print(f"machine_profile.py: there is no result in {options.folder}", file=sys.stderr)
        return 2
    (options.folder / "profile.json").write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(whole["figures"], indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

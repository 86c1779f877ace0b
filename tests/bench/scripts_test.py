#!/usr/bin/env python3
"""bench/compare.py, plot.py, machine_profile.py and baselines/torch_sdpa.py on small results.

usage: scripts_test.py BENCH_FOLDER [unittest options]
"""
import copy
import importlib.util
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

BENCH = None


def load(name):
    spec = importlib.util.spec_from_file_location(name, BENCH / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def row(name, tokens, median, error, **other):
    return {"name": name, "tokens": tokens, "threads": 1, "batch": 1, "host_dtype": "bf16", "cold": "wash",
            "us": {"min": 0.9 * median, "median": median}, "floor_us": median / 3, "bytes_per_step": 1e3 * tokens,
            "error": {"mean": error}, **other}


RESULT = {"rows": [row("all", 4096, 1000, 1e-6), row("all", 32768, 8000, 1e-6), row("lsh", 4096, 500, 0.3),
                   row("lsh", 32768, 2000, 0.25)]}
GOOGLE = {"benchmarks": [
    {"name": "dot/avx2", "run_name": "dot/avx2", "run_type": "iteration", "real_time": 2.0, "time_unit": "us"},
    {"name": "dot/avx512_mean", "run_name": "dot/avx512", "run_type": "aggregate", "aggregate_name": "mean",
     "real_time": 9.0, "time_unit": "ns"},
    {"name": "dot/avx512_median", "run_name": "dot/avx512", "run_type": "aggregate", "aggregate_name": "median",
     "real_time": 4.0, "time_unit": "ns"}]}


class Scripts(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="tandem-bench-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def write(self, name, content):
        path = self.folder / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return str(path)

    def run_script(self, name, *arguments):
        return subprocess.run([sys.executable, str(BENCH / name), *map(str, arguments)], capture_output=True, text=True,
                              timeout=300)

    def compare(self, before, after, *arguments):
        return self.run_script("compare.py", self.write("before.json", before), self.write("after.json", after), *arguments)

    def changed(self, index, **factors):
        result = copy.deepcopy(RESULT)
        changed = result["rows"][index]
        for name in ("min", "median"):
            changed["us"][name] *= factors.get(name, 1)
        changed["error"]["mean"] *= factors.get("error", 1)
        return result


class Compare(Scripts):
    def test_no_change(self):
        result = self.compare(RESULT, RESULT)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(len(result.stdout.splitlines()), 5)
        self.assertNotIn("SLOWER", result.stdout)

    def test_slower_needs_median_and_minimum(self):
        self.assertIn("SLOWER", self.compare(RESULT, self.changed(3, min=1.2, median=1.2)).stdout)
        self.assertEqual(self.compare(RESULT, self.changed(3, min=1.2, median=1.2)).returncode, 1)
        noise = self.compare(RESULT, self.changed(3, median=1.2))
        self.assertEqual(noise.returncode, 0)
        self.assertIn("noise", noise.stdout)
        self.assertEqual(self.compare(RESULT, self.changed(3, min=1.2, median=1.2), "--threshold", 25).returncode, 0)

    def test_faster(self):
        result = self.compare(RESULT, self.changed(0, min=0.5, median=0.5))
        self.assertEqual(result.returncode, 0)
        self.assertRegex(result.stdout, r"all 4096 1 1 bf16 wash +1000\.0 +500\.0 +-50\.0%.*faster")

    def test_errors_count(self):
        worse = self.changed(2, error=1.3)
        self.assertIn("WORSE ERROR", self.compare(RESULT, worse).stdout)
        self.assertEqual(self.compare(RESULT, worse).returncode, 1)
        self.assertEqual(self.compare(RESULT, worse, "--error-threshold", 50).returncode, 0)
        self.assertEqual(self.compare(RESULT, self.changed(0, error=5)).returncode, 0)  # still rounding

    def test_rows_of_one_file(self):
        fewer = {"rows": RESULT["rows"][:-1]}
        result = self.compare(RESULT, fewer)
        self.assertEqual(result.returncode, 0)
        self.assertIn("only before", result.stdout)
        self.assertIn("only after", self.compare(fewer, RESULT).stdout)

    def test_google_benchmark(self):
        after = copy.deepcopy(GOOGLE)
        after["benchmarks"][2]["real_time"] = 5.0
        result = self.compare(GOOGLE, after)
        self.assertEqual(result.returncode, 1)
        self.assertRegex(result.stdout, r"dot/avx512 .*\+25\.0%.*SLOWER")
        self.assertRegex(result.stdout, r"dot/avx2 +2\.0 +2\.0")

    def test_bad_files(self):
        for before, after, naming in [("{", RESULT, "before.json"), ({}, RESULT, "neither"), (RESULT, GOOGLE, "in common"),
                                      ({"rows": [{"name": "all"}]}, RESULT, "lacks")]:
            with self.subTest(naming=naming):
                result = self.compare(before, after)
                self.assertEqual(result.returncode, 2)
                self.assertIn(naming, result.stderr)
        self.assertEqual(self.run_script("compare.py", self.folder / "absent.json", self.folder / "b.json").returncode, 2)


class Plot(Scripts):
    def test_exponent(self):
        plot = load("plot")
        self.assertAlmostEqual(plot.exponent([(10, 5), (100, 50), (1000, 500)]), 1)
        self.assertAlmostEqual(plot.exponent([(16, 4), (64, 8)]), 0.5)
        self.assertIsNone(plot.exponent([(16, 4)]))

    def test_labels_say_what_differs(self):
        plot = load("plot")
        rows = [row("lsh", 10, 1, 1), {**row("lsh", 10, 1, 1), "threads": 2}]
        self.assertEqual([plot.label_of(each, rows) for each in rows], ["lsh, 1 thr", "lsh, 2 thr"])
        self.assertEqual(plot.label_of(rows[0], rows[:1]), "lsh")
        self.assertEqual({label: len(line) for label, line in plot.lines_of(RESULT["rows"]).items()}, {"all": 2, "lsh": 2})

    def test_pictures(self):
        result = self.run_script("plot.py", self.write("r.json", RESULT), "--out", self.folder / "out")
        if "matplotlib is missing" in result.stderr:
            self.assertEqual(result.returncode, 2)
            self.skipTest("matplotlib is missing")
        self.assertEqual(result.returncode, 0, result.stderr)
        time_context = (self.folder / "out" / "time_context.svg").read_text()
        self.assertIn("all: tokens^1.00", time_context)
        self.assertIn("lsh: tokens^0.67", time_context)
        self.assertIn("32,768 tokens", (self.folder / "out" / "error_bytes.svg").read_text())

    def test_picture_of_windows(self):
        def cell(policy, codec, host_tier, size, error):
            return {"policy": policy, "codec": codec, "host_tier": host_tier, "bytes_per_token": size, "error": {"mean": error}}
        cells = [cell("full", "bf16", "-", 256, 0.002), cell("latest", "kivi4", "on", 90, 0.02),
                 cell("latest", "kivi4", "off", 90, 0.2), {"policy": "h2o:64", "codec": "kivi4", "host_tier": "on", "refused": "x"}]
        result = self.run_script("plot.py", self.write("w.json", {"cells": cells}), "--out", self.folder / "window")
        if "matplotlib is missing" in result.stderr:
            self.assertEqual(result.returncode, 2)
            self.skipTest("matplotlib is missing")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual([path.name for path in (self.folder / "window").iterdir()], ["error_window.svg"])
        picture = (self.folder / "window" / "error_window.svg").read_text()
        for text, count in (("kivi4", 2), ("bf16", 1), ("latest, no host tier", 1), ("full", 1), ("h2o:64", 0)):
            self.assertEqual(picture.count(f">{text}</text>"), count, text)

    def test_bad_input(self):
        refused = {"cells": [{"policy": "full", "codec": "nuq4", "host_tier": "-", "refused": "x"}]}
        self.assertEqual(self.run_script("plot.py", self.write("w.json", refused)).returncode, 2)
        self.assertEqual(self.run_script("plot.py", self.write("r.json", "[]")).returncode, 2)
        result = self.run_script("plot.py", self.write("r.json", RESULT), "--tokens", 5)
        self.assertEqual(result.returncode, 2)
        self.assertIn("5 tokens", result.stderr)


def spread(value):
    return {"min": value, "median": value, "p99": 2 * value}


GPU_BENCH = {
    "emulated": False, "launches": {"call_us": spread(3)},
    "bandwidth": {"copy": {"gb_per_s": spread(1500)}, "read": {"gb_per_s": spread(1600)},
                  "to_device": [{"gb_per_s": spread(1)}, {"gb_per_s": spread(25)}], "to_host": [{"gb_per_s": spread(26)}]},
    "hand_offs": [{"became": "flag", "kernel": False, "us": spread(4)}, {"became": "flag", "kernel": True, "us": spread(7)}],
    "rows": [{"name": "bf16", "tokens": 4096, "batch": 1, "us": spread(20)},
             {"name": "bf16", "tokens": 8192, "batch": 1, "us": spread(30)},
             {"name": "bf16", "tokens": 8192, "batch": 8, "us": spread(200)}]}


class MachineProfile(Scripts):
    def profile(self, **results):
        with tempfile.TemporaryDirectory() as folder:
            for name, result in results.items():
                (pathlib.Path(folder) / f"{name}.json").write_text(json.dumps(result), encoding="utf-8")
            status = subprocess.run([sys.executable, BENCH / "machine_profile.py", folder], capture_output=True,
                                    check=False).returncode
            path = pathlib.Path(folder) / "profile.json"
            return status, json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    def test_has_every_result_and_the_figures_of_gpu_bench(self):
        stack = {"benchmark": "layer_stack", "ping_pong_on": {"overlap_efficiency": 0.92}}
        status, profile = self.profile(gpu_bench=GPU_BENCH, decode_step=RESULT, layer_stack=stack, timeline=[], layer_stack_timeline=[])
        self.assertEqual(status, 0)
        self.assertEqual(profile["results"], {"gpu_bench": GPU_BENCH, "decode_step": RESULT, "layer_stack": stack})
        self.assertIn("gpu", profile)
        self.assertIn("numa_nodes", profile)
        figures = profile["figures"]
        self.assertEqual((figures["read_gb_per_s"], figures["to_device_gb_per_s"]), (1600, 25))
        self.assertEqual((figures["hand_off_us"], figures["hand_off_p99_us"]), ({"flag": 7}, {"flag": 14}))
        self.assertEqual((figures["window_tokens"], figures["window_us"]), (8192, {"bf16": 30}))

    def test_other_results_have_no_figures(self):
        self.assertIsNone(self.profile(decode_step=RESULT)[1]["figures"])

    def test_nothing_is_no_profile(self):
        self.assertEqual(self.profile(), (2, None))


class TorchSdpa(Scripts):
    def test_runs_or_says_what_is_missing(self):
        result = self.run_script("baselines/torch_sdpa.py", "--contexts", "256", "--threads", "1", "--steps", 2, "--cache-mib", 1,
                                 "--json", self.folder / "torch.json")
        if result.returncode == 2:
            self.assertIn("pip install torch", result.stderr)
            self.skipTest("PyTorch is missing")
        self.assertEqual(result.returncode, 0, result.stderr)
        comparison = self.run_script("compare.py", self.folder / "torch.json", self.folder / "torch.json")
        self.assertEqual(comparison.returncode, 0, comparison.stderr)


if __name__ == "__main__":
    BENCH = pathlib.Path(sys.argv[1])
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]])

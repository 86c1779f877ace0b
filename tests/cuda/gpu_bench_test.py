"""gpu_bench on the emulator: runs to the end, reports what was asked for, refuses what is not allowed.

usage: gpu_bench_test.py PROGRAM
"""
import json
import math
import pathlib
import subprocess
import sys
import tempfile
import unittest

PROGRAM = ""
TINY = ["--quick", "--kv-heads", "1", "--group", "2", "--repetitions", "2", "--round-trips", "3", "--device-mib", "1",
        "--pinned-mib", "1", "--wash-mib", "1", "--chunks", "20"]


def run(*arguments):
    return subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, check=False)


def numbers(value):
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [number for element in value for number in numbers(element)]
    return [value] if isinstance(value, float) else []


class GpuBench(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "result.json"
            cls.result = run(*TINY, "--contexts", "128,1152", "--batches", "1,2", "--json", str(path))
            cls.report = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    def test_runs_to_the_end(self):
        self.assertEqual(self.result.returncode, 0, self.result.stderr)
        self.assertTrue(self.report["emulated"])
        self.assertEqual(self.report["skipped"], [])
        self.assertIn("windows of 1152 tokens", self.result.stderr)
        self.assertIn("kivi2_group128", self.result.stdout)
        self.assertTrue(all(math.isfinite(number) for number in numbers(self.report)))

    def test_windows_of_every_format_agree_with_the_oracle(self):
        rows = self.report["rows"]
        formats = {row["name"] for row in rows}
        self.assertEqual(formats, {"bf16", "int8", "fp8", "kivi4_group32", "kivi2_group32", "kivi4_group128",
                                   "kivi2_group128", "qjl256_outliers8", "nuq4", "nuq3", "nuq2"})
        self.assertEqual(len(rows), 4 * len(formats))
        for row in rows:
            self.assertLess(row["error"]["max"], 1e-5, row)
            self.assertLess(row["error"]["lse"], 1e-4, row)
            self.assertEqual((row["us"]["samples"], row["call_us"]["samples"]), (2, 2))
        bytes_read = {(row["name"], row["tokens"], row["batch"]): row["bytes"] for row in rows}
        self.assertEqual(bytes_read["bf16", 1152, 2], 1152 * 2 * 512)
        self.assertLess(bytes_read["kivi2_group128", 1152, 2], bytes_read["int8", 1152, 2])

    def test_bandwidths_hand_offs_and_merges(self):
        bandwidth = self.report["bandwidth"]
        self.assertTrue(bandwidth["pinned"])
        for direction in ("to_device", "to_host"):
            self.assertEqual([size["bytes"] for size in bandwidth[direction]], [4096, 65536, 1 << 20])
            self.assertEqual([size["bytes"] for size in bandwidth["pageable_" + direction]], [1 << 20])
        self.assertEqual({(trip["became"], trip["kernel"]) for trip in self.report["hand_offs"]},
                         {(way, kernel) for way in ("flag", "host_call", "event", "cudaStreamSynchronize")
                          for kernel in (False, True)})
        self.assertEqual([(merge["vectors"], merge["partials"]) for merge in self.report["merges"]],
                         [(2, 1), (2, 4), (4, 1), (4, 4)])
        self.assertEqual(self.report["launches"]["call_us"]["samples"], 3)

    def test_chunks_over_host_rows_agree_with_the_oracle(self):
        rows = self.report["streamed"]
        self.assertEqual({(row["tokens"], row["vectors"]) for row in rows}, {(128, 40), (1152, 40)})
        for row in rows:
            self.assertEqual(row["bytes"], row["tokens"] * 512)
            self.assertLess(row["error"], 2e-5, row)
            self.assertEqual(row["us"]["samples"], 2)
        self.assertIn("TFLOP/s", self.result.stdout)

    def test_indexes_are_built_with_the_device_and_without(self):
        builds = {build["name"]: build for build in self.report["index_builds"]}
        self.assertEqual(set(builds), {"sketch1", "sketch2", "simhash_hadamard", "simhash_gaussian"})
        for build in builds.values():
            self.assertEqual((build["device_us"]["samples"], build["worker_us"]["samples"]), (2, 2))
        self.assertTrue(builds["sketch1"]["equal"] and builds["sketch2"]["equal"])

    def test_refuses_what_is_not_allowed(self):
        for arguments, text in ((("--contexts", "100"), "multiples of 128"), (("--formats", "bf8"), "'bf8'"),
                                (("--device", "host"), "cuda:N"), (("--batches", "0"), "whole numbers from 1"),
                                (("--chunks", "0"), "whole numbers from 1")):
            result = run(*arguments)
            self.assertEqual(result.returncode, 2, arguments)
            self.assertIn(text, result.stderr)
        absent = run("--device", "cuda:9")
        self.assertEqual(absent.returncode, 2, absent.stderr)
        self.assertIn("allowed: cuda:0", absent.stderr)


if __name__ == "__main__":
    PROGRAM = sys.argv.pop(1)
    unittest.main()

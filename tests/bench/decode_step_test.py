#!/usr/bin/env python3
"""decode_step from outside: what it reports, that its figures are consistent, and what it refuses.

usage: decode_step_test.py BINARY [unittest options]
"""
import json
import re
import subprocess
import sys
import unittest

BINARY = None
SMALL = {"--contexts": "600", "--kv-heads": 2, "--q-heads": 4, "--head-dim": 64, "--steps": 3, "--error-steps": 2,
         "--wash-mib": 8, "--threads": 1}
FIELDS = {"name", "selector", "tokens", "threads", "batch", "host_dtype", "layers", "cold", "group", "samples", "us", "worker_us",
          "bytes_per_step", "floor_us", "gap", "gap_of_min", "reachable_us", "gap_of_reachable",
          "rows_gathered", "rows_share", "keys_share", "error", "lse_error",
          "lse_error_estimate", "index_bytes_per_token", "build_ns_per_token", "bandwidth_gb_per_s"}


def decode_step(*arguments):
    return subprocess.run([BINARY, *map(str, arguments)], capture_output=True, text=True, timeout=300)


class DecodeStep(unittest.TestCase):
    def report(self, *arguments):
        small = [word for option, value in SMALL.items() if option not in arguments for word in (option, value)]
        result = decode_step(*small, "--json", "-", *arguments)
        self.assertEqual(result.returncode, 0, result.stderr)
        return json.loads(result.stdout)

    def test_fields(self):
        report = self.report("--contexts", "500,1K", "--selector", "all", "--selector", "lsh:lsh_bits=8,lsh_tables=20")
        self.assertLessEqual({"benchmark", "version", "date", "command", "machine", "isa", "settings", "rows"}, set(report))
        self.assertEqual(report["benchmark"], "decode_step")
        self.assertIn("processor", report["machine"])
        self.assertEqual(report["settings"]["wash_bytes"], 8 << 20)
        rows = report["rows"]
        self.assertEqual([(row["name"], row["tokens"]) for row in rows],
                         [("all", 500), ("lsh lsh_bits=8 lsh_tables=20", 500), ("all", 1024),
                          ("lsh lsh_bits=8 lsh_tables=20", 1024)])
        for row in rows:
            self.assertLessEqual(FIELDS, set(row))
            self.assertEqual(row["samples"], 3)
            us = row["us"]
            self.assertTrue(0 < us["min"] <= us["p10"] <= us["median"] <= us["p90"] <= us["max"], us)
            self.assertIn(row["slowest_step"], range(3))
            self.assertAlmostEqual(row["gap"], us["median"] / row["floor_us"], places=6)
            speed = row["bandwidth_gb_per_s"]
            self.assertAlmostEqual(row["floor_us"], row["bytes_per_step"] / max(speed.values()) / 1000, places=6)

    def test_scattered_rows_take_longer_to_reach(self):
        dense, sparse = self.report("--selector", "all", "--selector", "topk:budget=0.1")["rows"]
        self.assertEqual((dense["scattered_bytes_per_step"], dense["reachable_us"]), (0, dense["floor_us"]))
        apart = sparse["scattered_bytes_per_step"]
        self.assertTrue(0 < apart < sparse["bytes_per_step"])
        speed, slow = (max(sparse[name].values()) for name in ("bandwidth_gb_per_s", "scattered_gb_per_s"))
        self.assertAlmostEqual(sparse["reachable_us"], (sparse["bytes_per_step"] - apart) / speed / 1000 + apart / slow / 1000, places=6)

    def test_quantized_rows_are_fewer_bytes(self):
        rows = self.report("--selector", "all", "--host-dtypes", "bf16,int8,k8v4")["rows"]
        self.assertEqual([row["host_dtype"] for row in rows], ["bf16", "int8", "k8v4"])
        whole, eight, four = (row["bytes_per_step"] for row in rows)
        self.assertTrue(four < eight < whole)
        self.assertTrue(0 < rows[1]["error"]["mean"] < rows[2]["error"]["mean"] < 0.2)

    def test_a_compressed_window_is_fewer_bytes(self):
        plain, coded = (self.report("--selector", "all", "--local", 512, "--window-codec", codec) for codec in ("none", "int8"))
        self.assertEqual((plain["settings"]["window_codec"], coded["settings"]["window_codec"]), ("none", "int8"))
        self.assertLess(coded["rows"][0]["bytes_per_step"], 0.9 * plain["rows"][0]["bytes_per_step"])
        self.assertTrue(1e-3 < coded["rows"][0]["error"]["mean"] < 0.1)

    def test_dense_is_exact_and_reads_every_row(self):
        for cold, used in (("wash", "wash"), ("warm", "warm"), ("auto", "wash")):  # rotation would take too many copies
            row = self.report("--selector", "all", "--cold", cold)["rows"][0]
            self.assertEqual(row["cold"], used)
            self.assertLess(row["error"]["p95"], 1e-4)
            self.assertLess(row["lse_error"]["p95"], 1e-4)
            self.assertEqual((row["rows_share"], row["keys_share"], row["layers"]), (1, 1, 1))
            # about 603 tokens, of 2 heads with a K and a V row of 64 bf16 numbers
            self.assertAlmostEqual(row["bytes_per_step"], 603 * 2 * 2 * 64 * 2, delta=2000)

    def test_lists_multiply(self):
        rows = self.report("--selector", "all", "--threads", "1,2", "--batches", "1,3", "--host-dtypes", "f32,bf16")["rows"]
        self.assertEqual({(row["threads"], row["batch"], row["host_dtype"]) for row in rows},
                         {(t, b, d) for t in (1, 2) for b in (1, 3) for d in ("f32", "bf16")})
        per_sequence = {row["bytes_per_step"] / row["batch"] for row in rows if row["host_dtype"] == "bf16"}
        self.assertEqual(len(per_sequence), 1)

    def test_json_selectors_and_other_heads(self):
        row = self.report("--selector", '{"kind": "topk", "budget": 0.1}', "--kind", "peaked")["rows"][0]
        self.assertEqual((row["name"], row["selector"]["budget"]), ("topk budget=0.1", 0.1))
        self.assertTrue(0.05 < row["rows_share"] < 0.5)
        self.assertIsNone(row["lse_error_estimate"])

    def test_baselines_take_turns(self):
        known = re.search(r"outside the runtime: (\S*)", decode_step("--help").stdout).group(1).split(",")
        if "faiss-flat" not in known:
            self.skipTest("built without FAISS")
        rows = self.report("--baselines", ",".join(known), "--selector", "topk:budget=0.02", "--contexts", "1500")["rows"]
        self.assertEqual([row["name"] for row in rows], [*known, "topk budget=0.02"])
        flat, top = rows[0], rows[-1]
        self.assertAlmostEqual(flat["error"]["mean"], top["error"]["mean"], delta=0.1 * top["error"]["mean"])
        for row in rows:
            self.assertLessEqual(FIELDS, set(row))
            self.assertLess(row["error"]["mean"], 1.5)
            self.assertTrue(0.01 < row["rows_share"] < 0.09, row["rows_share"])

    def test_refusals(self):
        for option, value, naming in [("--selector", "best", "best"), ("--selector", "lsh:lsh_bits", "FIELD=VALUE"),
                                      ("--selector", "lsh:lsh_bitz=3", "lsh_bitz"), ("--contexts", "0", "1 to 16M"),
                                      ("--contexts", "4G", "4G"), ("--threads", "0", "--threads"),
                                      ("--host-dtypes", "int4", "int8"), ("--kind", "round", "positional"),
                                      ("--baselines", "magic", "magic"), ("--cold", "icy", "rotate"),
                                      ("--steps", "0", "from 1"), ("--device", "host,gpu", "cuda:0")]:
            with self.subTest(option=option, value=value):
                result = decode_step(option, value)
                self.assertEqual(result.returncode, 2, result.stderr)
                self.assertRegex(result.stderr, r"\Adecode_step: [^\n]+\n\Z")
                self.assertIn(naming, result.stderr)

    def test_too_many_copies(self):
        result = decode_step("--contexts", 64, "--kv-heads", 1, "--q-heads", 1, "--head-dim", 16, "--cold", "rotate",
                             "--selector", "all")
        self.assertEqual(result.returncode, 2, result.stdout)
        self.assertIn("copies of", result.stderr)

    def test_help_teaches(self):
        result = decode_step("--help")
        self.assertEqual(result.returncode, 0)
        for word in ("Example", "floor", "wash", "--selector", "--json"):
            self.assertIn(word, result.stdout)


if __name__ == "__main__":
    BINARY = sys.argv[1]
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]])
